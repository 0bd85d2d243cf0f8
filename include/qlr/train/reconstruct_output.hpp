// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/random.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/finite.hpp>
#include <qlr/train/learning_rate.hpp>
#include <qlr/train/loss.hpp>
#include <qlr/train/optimizer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace qlr::train {

struct reconstruct_options {
  learning_rate_schedule rate{.highest = 1e-3, .num_steps = 500, .decay = rate_decay::cosine};
  adamw_options optimizer{};
  index_t batch_tokens = 0;   ///< rows of X per step, drawn anew each time; 0 = all of them
  index_t check_interval = 1; ///< with batches: steps between two looks at the error over all of X
  std::uint64_t seed = 0;     ///< of the batches
  /// Called with the step and the relative error of its rows.
  std::function<void(index_t step, double relative_error)> on_step{};
};

/// How a layer's output came closer to its target.
struct reconstruct_result {
  double first_error = 0; ///< || Y_hat - Y ||_F / || Y ||_F before the first step
  double best_error = 0;  ///< of the parameters that the layer was left with
  index_t best_step = 0;  ///< steps before them
};

namespace detail {

/// The values of parameters at some step.
template <std::floating_point T>
class snapshot {
public:
  explicit snapshot(std::span<const parameter_view<T>> parameters) { take(parameters); }

  void take(std::span<const parameter_view<T>> parameters) {
    values_.resize(parameters.size());
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      values_[k].resize(static_cast<std::size_t>(parameters[k].size()));
      for (index_t i = 0; i < parameters[k].size(); ++i)
        values_[k][static_cast<std::size_t>(i)] = parameters[k].value(i);
    }
  }
  void put_back(std::span<const parameter_view<T>> parameters) const {
    for (std::size_t k = 0; k < parameters.size(); ++k) {
      for (index_t i = 0; i < parameters[k].size(); ++i)
        parameters[k].set_value(i, values_[k][static_cast<std::size_t>(i)]);
    }
  }

private:
  std::vector<std::vector<T>> values_;
};

/// Rows of X and Y drawn for a step.
template <class T>
void draw_rows(matrix_view<const T> from, std::uint64_t key, matrix<T>& out) {
  for (index_t i = 0; i < out.rows(); ++i) {
    const double place = to_unit_interval(philox(key, static_cast<std::uint64_t>(i))[0]);
    const auto row = static_cast<index_t>(place * static_cast<double>(from.rows()));
    std::copy_n(from.row(row), from.cols(), out.view().row(i));
  }
}

} // namespace detail

/// Trains a layer until its output Y_hat for X (t,n) is as close to Y (t,m) as the steps allow: what LRQ does
/// with each layer or block, and a start for the others.
///
/// The parameters with the lowest error over all of X are kept, so the error never rises. For Y = X W^T any B
/// with B^T B = X^T X, such as a root of the covariance, stands for X, B W^T for Y: n rows instead of t.
/// @param x  X (t,n), contiguous rows;  @param target  Y (t,m)
/// @throws qlr::error shape_mismatch: X or Y does not fit the layer
/// @throws qlr::error invalid_argument: an option out of range
/// @throws qlr::error non_finite: a loss or gradient; names step and parameter
/// @memory one output and its gradient, two numbers per parameter, a copy of the best parameters
/// @complexity steps times forward and backward
/// @determinism the same bits on any number of threads
template <trainable_layer Layer>
reconstruct_result reconstruct_output(Layer& layer, matrix_view<const typename Layer::compute_type> x,
                                      matrix_view<const typename Layer::compute_type> target,
                                      const reconstruct_options& options, const executor& run = {}) {
  using T = typename Layer::compute_type;
  validate(options.rate);
  require(options.batch_tokens >= 0 && options.check_interval >= 1, status_code::invalid_argument,
          "batch_tokens is ", options.batch_tokens, " and check_interval ", options.check_interval,
          ", allowed are 0 and above, and 1 and above");
  require(target.rows() == x.rows() && target.cols() == layer.rows(), status_code::shape_mismatch, "Y is ",
          target.rows(), " x ", target.cols(), ", it must be ", x.rows(), " x ", layer.rows());
  const std::vector<parameter_view<T>> views = layer.parameters({});
  const std::span<const parameter_view<T>> parameters(views);
  adamw<T> optimizer(parameters, options.optimizer);
  detail::snapshot<T> best(parameters);
  const double norm = squared_norm(target);
  const bool takes_all = options.batch_tokens == 0 || options.batch_tokens >= x.rows();
  const index_t rows = takes_all ? x.rows() : options.batch_tokens;
  matrix<T> batch_x(takes_all ? 0 : rows, x.cols());
  matrix<T> batch_y(takes_all ? 0 : rows, target.cols());
  matrix<T> output(rows, target.cols());
  const auto error_of = [&](matrix_view<const T> from, matrix_view<const T> to, matrix<T>& gradient,
                            double energy) {
    layer.forward(from, gradient.view(), run);
    return subtract_target(to, gradient.view()) / (energy > 0 ? energy : 1.0);
  };
  reconstruct_result result;
  const auto consider = [&](index_t step, double relative) {
    if (step == 0) result.first_error = relative;
    if (step != 0 && !(relative < result.best_error)) return;
    result.best_error = relative;
    result.best_step = step;
    best.take(parameters);
  };
  matrix<T> all(takes_all ? 0 : x.rows(), target.cols());
  for (index_t step = 0; step <= options.rate.num_steps; ++step) {
    const bool is_last = step == options.rate.num_steps;
    if (!takes_all && (is_last || step % options.check_interval == 0))
      consider(step, std::sqrt(error_of(x, target, all, norm)));
    if (is_last && !takes_all) break;
    matrix_view<const T> from = x;
    matrix_view<const T> to = target;
    if (!takes_all) {
      const std::uint64_t key = detail::step_key(options.seed, step, 0);
      detail::draw_rows(x, key, batch_x);
      detail::draw_rows(target, key, batch_y);
      from = batch_x.view();
      to = batch_y.view();
    }
    const double energy = takes_all ? norm : squared_norm(to);
    const double loss = error_of(from, to, output, energy); // output holds Y_hat - Y
    if (takes_all) consider(step, std::sqrt(loss));
    if (options.on_step) options.on_step(step, std::sqrt(loss));
    if (is_last) break;
    zero_gradients(parameters);
    scale_values(output.view(), 2.0 / (energy > 0 ? energy : 1.0));
    layer.backward(from, output.view(), {}, run);
    require_finite_step(step, loss, parameters);
    optimizer.step(parameters, options.rate.at(step), run);
  }
  best.put_back(parameters);
  return result;
}

} // namespace qlr::train
