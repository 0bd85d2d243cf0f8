// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/optimizer.hpp>

#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qlr::test {

/// Parameters of several shapes and options, with gradients that are a fixed function of the step.
template <train::storage_scalar Storage>
struct some_parameters {
  using compute_type = train::compute_t<Storage>;

  std::vector<train::parameter<Storage>> owners;

  some_parameters() {
    add(5, 7, {});
    add(0, 3, {});
    add(1, 1, {.learning_rate_factor = 0.1, .has_weight_decay = true});
    add(1, 70, {.learning_rate_factor = 1, .has_weight_decay = false});
    add(65, 2, {.learning_rate_factor = 3, .has_weight_decay = false});
  }

  void add(index_t rows, index_t cols, const train::parameter_options& options) {
    random_source random(20 + owners.size());
    train::parameter<Storage>& p = owners.emplace_back(rows, cols, options);
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < cols; ++j) p.set(i, j, static_cast<compute_type>(random.normal()));
    }
  }

  /// Sizes from 1e-3 to 10, a tenth of them zero.
  void set_gradients(index_t step) {
    random_source random(1000 + static_cast<std::uint64_t>(step));
    for (train::parameter<Storage>& p : owners) {
      for (index_t i = 0; i < p.size(); ++i) {
        const double size = std::pow(10.0, random.between(-3, 1));
        p.gradient().data()[i] =
            random.uniform() < 0.1 ? compute_type{0} : static_cast<compute_type>(size * random.normal());
      }
    }
  }

  [[nodiscard]] std::vector<train::parameter_view<compute_type>> views() {
    std::vector<train::parameter_view<compute_type>> result;
    for (std::size_t k = 0; k < owners.size(); ++k) result.push_back(owners[k].view(sentence("p", k)));
    return result;
  }

  /// All values, one parameter after the other.
  [[nodiscard]] std::vector<double> values() const {
    std::vector<double> all;
    for (const train::parameter<Storage>& p : owners) {
      for (index_t i = 0; i < p.rows(); ++i) {
        for (index_t j = 0; j < p.cols(); ++j) all.push_back(static_cast<double>(p(i, j)));
      }
    }
    return all;
  }

  template <class Archive>
  void visit_state(Archive& archive) {
    for (std::size_t k = 0; k < owners.size(); ++k) archive.values(sentence("p", k), owners[k].values());
  }
};

/// One number of a parameter, as it is trained in double.
struct slow_number_state {
  double value = 0;
  double first = 0;
  double second = 0;
};

/// Adam with decoupled decay of one number, from the paper's algorithm 2.
inline void slow_adamw(slow_number_state& state, double gradient, index_t step, double rate,
                       const train::adamw_options& options, bool decays) {
  state.first = options.beta1 * state.first + (1 - options.beta1) * gradient;
  state.second = options.beta2 * state.second + (1 - options.beta2) * gradient * gradient;
  double power1 = 1;
  double power2 = 1;
  for (index_t i = 0; i < step; ++i) {
    power1 *= options.beta1;
    power2 *= options.beta2;
  }
  const double mean = state.first / (1 - power1);
  const double square = state.second / (1 - power2);
  const double decay = decays ? options.weight_decay * state.value : 0.0;
  state.value -= rate * (mean / (std::sqrt(square) + options.epsilon) + decay);
}

/// Gradient descent with momentum of one number, with decay as a part of the gradient.
inline void slow_sgd(slow_number_state& state, double gradient, double rate,
                     const train::sgd_options& options, bool decays) {
  const double direction = gradient + (decays ? options.weight_decay * state.value : 0.0);
  state.first = options.momentum * state.first + direction;
  state.value -= rate * state.first;
}

/// The values after a number of steps, each number by `update(state, gradient, step, options)`.
template <train::storage_scalar Storage, class Update>
[[nodiscard]] std::vector<double> slow_steps(some_parameters<Storage> parameters, index_t num_steps,
                                             Update&& update) {
  std::vector<slow_number_state> states;
  for (const double value : parameters.values()) states.push_back({.value = value});
  for (index_t step = 1; step <= num_steps; ++step) {
    parameters.set_gradients(step);
    std::size_t at = 0;
    for (const auto& p : parameters.views()) {
      for (index_t i = 0; i < p.size(); ++i)
        update(states[at++], static_cast<double>(p.gradient[i]), step, p.options);
    }
  }
  std::vector<double> values;
  for (const slow_number_state& state : states) values.push_back(state.value);
  return values;
}

/// Steps from `first` to `last`, with gradients of each.
template <class Optimizer, train::storage_scalar Storage>
void run_steps(Optimizer& optimizer, some_parameters<Storage>& parameters, index_t first, index_t last,
               double rate, const executor& run = {}) {
  for (index_t step = first; step <= last; ++step) {
    parameters.set_gradients(step);
    const auto views = parameters.views();
    optimizer.step(views, rate, run);
  }
}

/// The largest difference of two lists of the same length, relative to 1 + |expected|.
[[nodiscard]] inline double largest_difference(const std::vector<double>& values,
                                               const std::vector<double>& expected) {
  if (values.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double difference = std::fabs(values[i] - expected[i]) / (1 + std::fabs(expected[i]));
    if (!(difference <= largest)) largest = difference; // NaN stays
  }
  return largest;
}

} // namespace qlr::test
