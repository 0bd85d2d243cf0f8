// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/random.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/parameter.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::train {

namespace detail {

/// One parameter's plain matrices of state, in the order of the parameters.
template <std::floating_point T>
using moments = std::vector<matrix<T>>;

template <std::floating_point T>
void check_same_parameters(std::span<const parameter_view<T>> parameters, const moments<T>& state) {
  require(parameters.size() == state.size(), status_code::shape_mismatch, "optimizer has the state of ",
          state.size(), " parameters, it was given ", parameters.size());
  for (std::size_t k = 0; k < state.size(); ++k) {
    const parameter_view<T>& p = parameters[k];
    require(state[k].rows() == p.rows && state[k].cols() == p.cols, status_code::shape_mismatch, "parameter ",
            p.name, " is ", p.rows, " x ", p.cols, ", the optimizer's state of it is ", state[k].rows(),
            " x ", state[k].cols());
  }
}

template <std::floating_point T>
[[nodiscard]] moments<T> zeros_like(std::span<const parameter_view<T>> parameters) {
  moments<T> state;
  for (const parameter_view<T>& p : parameters) state.emplace_back(p.rows, p.cols, T{0});
  return state;
}

/// The first of `count` numbers that is not finite, or count.
template <storage_scalar Storage>
[[nodiscard]] index_t first_not_finite(const Storage* values, index_t count) {
  index_t i = 0;
  while (i < count && is_finite(load(values[i]))) ++i;
  return i;
}

/// Replaces every value v_i of a parameter by update(i, v_i); bf16 is rounded at random by (seed, step).
///
/// @throws qlr::error non_finite: a new value is not finite; the parameter is changed then
template <std::floating_point T, class Update>
void update_values(const parameter_view<T>& p, std::uint64_t key, index_t step, const executor& run,
                   Update&& update) {
  constexpr index_t grain = 1 << 14;
  const auto set_range = [&](auto* values, index_t begin, index_t end) {
    using stored_type = std::remove_pointer_t<decltype(values)>;
    for (index_t i = begin; i < end; ++i) {
      const T value = update(i, static_cast<T>(load(values[i])));
      if constexpr (std::same_as<stored_type, bfloat16>) {
        values[i] = to_bfloat16_at_random(value, philox(key, static_cast<std::uint64_t>(i))[0]);
      } else {
        values[i] = value;
      }
    }
  };
  std::visit(
      [&](auto* values) {
        for_each_range(run, p.size(), grain,
                       [&](index_t begin, index_t end) { set_range(values, begin, end); });
      },
      p.values);
  const index_t bad =
      std::visit([&](const auto* values) { return first_not_finite(values, p.size()); }, p.values);
  if (bad == p.size()) return;
  fail(status_code::non_finite, "step ", step, ": parameter ", p.name, "(", bad / p.cols, ", ", bad % p.cols,
       ") is ", p.value(bad), " after the update");
}

/// @throws qlr::error invalid_argument: the rate is not finite or negative
inline void check_rate(double learning_rate) {
  require(is_finite(learning_rate) && learning_rate >= 0, status_code::invalid_argument, "learning rate is ",
          learning_rate, ", allowed are 0 and finite numbers above");
}

/// A key of random numbers for one step of one parameter.
[[nodiscard]] constexpr std::uint64_t step_key(std::uint64_t seed, index_t step, std::size_t parameter) {
  const auto words = philox(seed, static_cast<std::uint64_t>(step));
  return (std::uint64_t{words[0]} << 32U | words[1]) + static_cast<std::uint64_t>(parameter);
}

} // namespace detail

/// How sgd moves.
struct sgd_options {
  double momentum = 0;
  double weight_decay = 0; ///< added to the gradient, times the value
  std::uint64_t seed = 0;  ///< of the rounding of parameters stored in bf16
};

/// Stochastic gradient descent with momentum: b = momentum b + g, w -= lr b.
///
/// @memory one number per parameter with momentum, none without
template <std::floating_point T>
class sgd {
public:
  /// @throws qlr::error invalid_argument: momentum outside [0, 1), weight_decay below 0
  explicit sgd(std::span<const parameter_view<T>> parameters, const sgd_options& options = {})
      : options_(options) {
    require(options.momentum >= 0 && options.momentum < 1, status_code::invalid_argument, "momentum is ",
            options.momentum, ", allowed are 0 to below 1");
    require(options.weight_decay >= 0 && is_finite(options.weight_decay), status_code::invalid_argument,
            "weight_decay is ", options.weight_decay, ", allowed are 0 and above");
    if (options.momentum > 0) velocity_ = detail::zeros_like(parameters);
  }

  /// Moves every parameter against its gradient; gradients stay as they are.
  ///
  /// @throws qlr::error invalid_argument: a rate that is negative or not finite
  /// @throws qlr::error shape_mismatch: other parameters than those whose state is kept
  /// @throws qlr::error non_finite: a parameter after the update; names the step, from 0, and the
  /// parameter. Parameters, moments and the count have changed then: go on from a saved state.
  void step(std::span<const parameter_view<T>> parameters, double learning_rate, const executor& run = {}) {
    detail::check_rate(learning_rate);
    if (options_.momentum > 0) detail::check_same_parameters(parameters, velocity_);
    ++num_steps_;
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      const parameter_view<T>& p = parameters[k];
      const auto rate = static_cast<T>(learning_rate * p.options.learning_rate_factor);
      const auto decay = static_cast<T>(p.options.has_weight_decay ? options_.weight_decay : 0.0);
      const auto momentum = static_cast<T>(options_.momentum);
      T* velocity = options_.momentum > 0 ? velocity_[k].data() : nullptr;
      detail::update_values(p, detail::step_key(options_.seed, num_steps_, k), num_steps_ - 1, run,
                            [&](index_t i, T value) {
                              T direction = p.gradient[i] + decay * value;
                              if (velocity != nullptr)
                                direction = velocity[i] = momentum * velocity[i] + direction;
                              return value - rate * direction;
                            });
    }
  }

  [[nodiscard]] index_t num_steps() const { return num_steps_; }
  /// Bytes of the state.
  [[nodiscard]] index_t state_bytes() const {
    index_t bytes = 0;
    for (const matrix<T>& v : velocity_) bytes += v.size() * static_cast<index_t>(sizeof(T));
    return bytes;
  }

  /// See state.hpp.
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.number(prefix + "num_steps", num_steps_);
    for (std::size_t k = 0; k < velocity_.size(); ++k)
      archive.values(prefix + "velocity." + std::to_string(k), velocity_[k]);
  }

private:
  sgd_options options_;
  index_t num_steps_ = 0;
  detail::moments<T> velocity_;
};

/// How adamw moves.
struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0; ///< decoupled: w -= lr weight_decay w
  std::uint64_t seed = 0;  ///< of the rounding of parameters stored in bf16
};

/// Adam with decoupled weight decay.
///
/// @memory two numbers per parameter
/// @see Loshchilov, Hutter, Decoupled weight decay regularization, arXiv 1711.05101, algorithm 2
template <std::floating_point T>
class adamw {
public:
  /// @throws qlr::error invalid_argument: a beta outside [0, 1), epsilon not positive, weight_decay below 0
  explicit adamw(std::span<const parameter_view<T>> parameters, const adamw_options& options = {})
      : options_(options), first_(detail::zeros_like(parameters)), second_(detail::zeros_like(parameters)) {
    for (const double beta : {options.beta1, options.beta2}) {
      require(beta >= 0 && beta < 1, status_code::invalid_argument, "beta is ", beta,
              ", allowed are 0 to below 1");
    }
    require(static_cast<T>(options.epsilon) > 0, status_code::invalid_argument, "epsilon is ",
            options.epsilon, ", it must be positive");
    require(options.weight_decay >= 0 && is_finite(options.weight_decay), status_code::invalid_argument,
            "weight_decay is ", options.weight_decay, ", allowed are 0 and above");
  }

  /// @copydoc sgd::step
  void step(std::span<const parameter_view<T>> parameters, double learning_rate, const executor& run = {}) {
    detail::check_rate(learning_rate);
    detail::check_same_parameters(parameters, first_);
    ++num_steps_;
    const auto t = static_cast<double>(num_steps_);
    const auto beta1 = static_cast<T>(options_.beta1);
    const auto beta2 = static_cast<T>(options_.beta2);
    const auto fresh1 = static_cast<T>(1.0 - options_.beta1); // in float, 1 - 0.999 is off by 1e-5
    const auto fresh2 = static_cast<T>(1.0 - options_.beta2);
    // Larger gradients count as this: an infinite second moment would stop their parameter for ever.
    const T largest = std::sqrt(std::numeric_limits<T>::max() * T(1e-7));
    const auto unbias1 = static_cast<T>(1.0 / (1.0 - std::pow(options_.beta1, t)));
    const auto unbias2 = static_cast<T>(1.0 / (1.0 - std::pow(options_.beta2, t)));
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      const parameter_view<T>& p = parameters[k];
      const double rate = learning_rate * p.options.learning_rate_factor;
      const auto keep =
          static_cast<T>(1.0 - (p.options.has_weight_decay ? rate * options_.weight_decay : 0.0));
      T* first = first_[k].data();
      T* second = second_[k].data();
      detail::update_values(
          p, detail::step_key(options_.seed, num_steps_, k), num_steps_ - 1, run, [&](index_t i, T value) {
            const T g = std::clamp(p.gradient[i], -largest, largest);
            first[i] = beta1 * first[i] + fresh1 * g;
            second[i] = beta2 * second[i] + fresh2 * (g * g);
            const T spread = std::sqrt(unbias2 * second[i]) + static_cast<T>(options_.epsilon);
            return keep * value - static_cast<T>(rate) * (unbias1 * first[i] / spread);
          });
    }
  }

  [[nodiscard]] index_t num_steps() const { return num_steps_; }
  /// Bytes of the state.
  [[nodiscard]] index_t state_bytes() const {
    index_t bytes = 0;
    for (const matrix<T>& m : first_) bytes += 2 * m.size() * static_cast<index_t>(sizeof(T));
    return bytes;
  }

  /// See state.hpp.
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.number(prefix + "num_steps", num_steps_);
    for (std::size_t k = 0; k < first_.size(); ++k) {
      archive.values(prefix + "first." + std::to_string(k), first_[k]);
      archive.values(prefix + "second." + std::to_string(k), second_[k]);
    }
  }

private:
  adamw_options options_;
  index_t num_steps_ = 0;
  detail::moments<T> first_;
  detail::moments<T> second_;
};

} // namespace qlr::train
