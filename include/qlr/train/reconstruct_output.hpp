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

/// How reconstruct_output trains.
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

/// What reconstruct_output does, step by step.
template <trainable_layer Layer>
class output_fit {
public:
  using T = typename Layer::compute_type;

  /// All arguments must outlive this.
  output_fit(Layer& layer, matrix_view<const T> x, matrix_view<const T> target,
             const reconstruct_options& options, const executor& run)
      : layer_(layer), x_(x), target_(target), options_(options), run_(run), views_(layer.parameters({})),
        optimizer_(views_, options.optimizer), best_(views_), norm_(squared_norm(target)),
        takes_all_(options.batch_tokens == 0 || options.batch_tokens >= x.rows()),
        output_(takes_all_ ? x.rows() : options.batch_tokens, target.cols()),
        batch_x_(takes_all_ ? 0 : output_.rows(), x.cols()),
        batch_y_(takes_all_ ? 0 : output_.rows(), target.cols()),
        all_(takes_all_ ? 0 : x.rows(), target.cols()) {}

  ~output_fit() { best_.put_back(views_); } // also when a step throws
  output_fit(const output_fit&) = delete;
  output_fit& operator=(const output_fit&) = delete;

  reconstruct_result fit() {
    const index_t num_steps = options_.rate.num_steps;
    for (index_t step = 0; step < num_steps; ++step) learn(step);
    if (takes_all_) {
      (void)measure(num_steps);
    } else {
      look(num_steps);
    }
    return result_;
  }

private:
  void learn(index_t step) {
    if (!takes_all_ && step % options_.check_interval == 0) look(step);
    const double energy = choose_rows(step);
    const double loss = measure(step);
    zero_gradients(views_);
    scale_values(output_.view(), 2.0 / unit_of(energy));
    layer_.backward(rows_of_x(), output_.view(), {}, run_);
    require_finite_step(step, loss, views_);
    optimizer_.step(views_, options_.rate.at(step), run_);
  }

  /// Draws the rows of a step; returns the squared norm of their targets.
  double choose_rows(index_t step) {
    if (takes_all_) return norm_;
    const std::uint64_t key = step_key(options_.seed, step, 0);
    draw_rows(x_, key, batch_x_);
    draw_rows(target_, key, batch_y_);
    return squared_norm(rows_of_target());
  }
  [[nodiscard]] matrix_view<const T> rows_of_x() const { return takes_all_ ? x_ : batch_x_.view(); }
  [[nodiscard]] matrix_view<const T> rows_of_target() const { return takes_all_ ? target_ : batch_y_.view(); }
  [[nodiscard]] static double unit_of(double energy) { return energy > 0 ? energy : 1.0; }

  /// || Y_hat - Y ||^2 / || Y ||^2 of the rows of a step; output_ becomes Y_hat - Y.
  double measure(index_t step) {
    const double loss = error_of(rows_of_x(), rows_of_target(), output_);
    if (takes_all_) consider(step, std::sqrt(loss));
    if (options_.on_step) options_.on_step(step, std::sqrt(loss));
    return loss;
  }

  /// The error over all of X, with batches.
  void look(index_t step) { consider(step, std::sqrt(error_of(x_, target_, all_))); }

  double error_of(matrix_view<const T> x, matrix_view<const T> target, matrix<T>& output) {
    layer_.forward(x, output.view(), run_);
    return subtract_target(target, output.view()) / unit_of(squared_norm(target));
  }

  void consider(index_t step, double relative) {
    if (step == 0) result_.first_error = relative;
    if (step != 0 && !(relative < result_.best_error)) return;
    result_.best_error = relative;
    result_.best_step = step;
    best_.take(views_);
  }

  Layer& layer_;
  matrix_view<const T> x_;
  matrix_view<const T> target_;
  const reconstruct_options& options_;
  executor run_;
  std::vector<parameter_view<T>> views_;
  adamw<T> optimizer_;
  snapshot<T> best_;
  double norm_; ///< squared, of the target
  bool takes_all_;
  matrix<T> output_;
  matrix<T> batch_x_;
  matrix<T> batch_y_;
  matrix<T> all_; ///< Y_hat of all rows, with batches
  reconstruct_result result_;
};

} // namespace detail

/// Trains a layer until its output Y_hat for X (t,n) is as close to Y (t,m) as the steps allow: what LRQ does
/// with each layer or block, and a start for the others.
///
/// The parameters with the lowest error over all of X are kept, so the error never rises. For Y = X W^T any B
/// with B^T B = X^T X, such as a root of the covariance, stands for X, B W^T for Y: n rows instead of t.
/// @param x  X (t,n);  @param target  Y (t,m); both with contiguous rows
/// @returns the errors before the first step and of what is kept
/// @throws qlr::error shape_mismatch: X or Y does not fit the layer
/// @throws qlr::error invalid_argument: an option out of range, or rows that are not contiguous
/// @throws qlr::error non_finite: a loss or gradient; names step and parameter; the best parameters so far
/// are kept
/// @memory one output and its gradient, two numbers per parameter, a copy of the best parameters
/// @complexity steps times forward and backward
/// @determinism the same bits on any number of threads
template <trainable_layer Layer>
reconstruct_result reconstruct_output(Layer& layer, matrix_view<const typename Layer::compute_type> x,
                                      matrix_view<const typename Layer::compute_type> target,
                                      const reconstruct_options& options, const executor& run = {}) {
  validate(options.rate);
  require(options.batch_tokens >= 0 && options.check_interval >= 1, status_code::invalid_argument,
          "batch_tokens is ", options.batch_tokens, " and check_interval ", options.check_interval,
          ", allowed are 0 and above, and 1 and above");
  require(x.has_contiguous_rows() && target.has_contiguous_rows(), status_code::invalid_argument,
          "X and Y need contiguous rows");
  require(target.rows() == x.rows() && target.cols() == layer.rows(), status_code::shape_mismatch, "Y is ",
          target.rows(), " x ", target.cols(), ", it must be ", x.rows(), " x ", layer.rows());
  return detail::output_fit<Layer>(layer, x, target, options, run).fit();
}

} // namespace qlr::train
