// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/train/storage.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace qlr::train {

/// How an optimizer treats a parameter, beside the options for all.
struct parameter_options {
  double learning_rate_factor = 1; ///< times the learning rate of the step
  bool has_weight_decay = true;    ///< false for scales and biases
};

/// A trainable matrix in somebody else's memory, row-major without gaps, and the gradient of the loss.
///
/// @tparam T  what is computed with: float or double
template <std::floating_point T>
struct parameter_view {
  /// Values as they are stored; a float may be stored in 16 bits.
  using values_type =
      std::conditional_t<std::same_as<T, float>, std::variant<float*, bfloat16*>, std::variant<double*>>;

  std::string name;
  index_t rows = 0;
  index_t cols = 0;
  values_type values;
  T* gradient = nullptr;
  parameter_options options{};

  [[nodiscard]] index_t size() const { return rows * cols; }
  [[nodiscard]] T value(index_t i) const {
    return std::visit([i](const auto* stored) { return static_cast<T>(load(stored[i])); }, values);
  }
  void set_value(index_t i, T value) const {
    std::visit(
        [&](auto* stored) {
          using stored_type = std::remove_pointer_t<decltype(stored)>;
          stored[i] = store<stored_type>(static_cast<compute_t<stored_type>>(value));
        },
        values);
  }
  /// Bytes of the values.
  [[nodiscard]] index_t value_bytes() const {
    return size() *
           std::visit([](const auto* stored) { return static_cast<index_t>(sizeof *stored); }, values);
  }
};

/// A trainable matrix and the gradient of the loss, which is as precise as what is computed with.
///
/// @memory rows * cols * (sizeof(Storage) + sizeof(compute_t<Storage>))
template <storage_scalar Storage>
class parameter {
public:
  using compute_type = compute_t<Storage>;

  parameter() = default;
  /// Zeros.
  parameter(index_t rows, index_t cols, parameter_options options = {})
      : values_(rows, cols, Storage{}), gradient_(rows, cols, compute_type{}), options_(options) {}

  [[nodiscard]] index_t rows() const { return values_.rows(); }
  [[nodiscard]] index_t cols() const { return values_.cols(); }
  [[nodiscard]] index_t size() const { return values_.size(); }

  [[nodiscard]] compute_type operator()(index_t row, index_t col) const { return load(values_(row, col)); }
  void set(index_t row, index_t col, compute_type value) { values_(row, col) = store<Storage>(value); }

  /// Rows first ... of the values, widened into `out` (any number of rows, cols).
  void load_rows(index_t first, matrix_view<compute_type> out) const {
    for (index_t i = 0; i < out.rows(); ++i) {
      const Storage* from = values_.view().row(first + i);
      compute_type* to = out.row(i);
      for (index_t j = 0; j < out.cols(); ++j) to[j] = load(from[j]);
    }
  }
  /// All values, widened.
  [[nodiscard]] matrix<compute_type> widened() const {
    matrix<compute_type> out(rows(), cols());
    load_rows(0, out.view());
    return out;
  }
  /// Replaces the values; each is rounded to what is stored.
  ///
  /// @throws qlr::error shape_mismatch: another shape
  template <std::floating_point T>
  void assign(matrix_view<const T> values) {
    require(values.rows() == rows() && values.cols() == cols(), status_code::shape_mismatch, "parameter is ",
            rows(), " x ", cols(), ", the values are ", values.rows(), " x ", values.cols());
    for (index_t i = 0; i < rows(); ++i) {
      for (index_t j = 0; j < cols(); ++j) set(i, j, static_cast<compute_type>(values(i, j)));
    }
  }

  [[nodiscard]] matrix<Storage>& values() { return values_; }
  [[nodiscard]] const matrix<Storage>& values() const { return values_; }
  [[nodiscard]] matrix<compute_type>& gradient() { return gradient_; }
  [[nodiscard]] const matrix<compute_type>& gradient() const { return gradient_; }

  [[nodiscard]] parameter_view<compute_type> view(std::string name) {
    return {std::move(name), rows(), cols(), values_.data(), gradient_.data(), options_};
  }

private:
  matrix<Storage> values_;
  matrix<compute_type> gradient_;
  parameter_options options_;
};

/// Sets all gradients to zero, as every step begins.
template <std::floating_point T>
void zero_gradients(std::span<const parameter_view<T>> parameters) {
  for (const parameter_view<T>& p : parameters) std::fill_n(p.gradient, p.size(), T{0});
}

/// @copydoc zero_gradients
template <std::floating_point T>
void zero_gradients(const std::vector<parameter_view<T>>& parameters) {
  zero_gradients(std::span<const parameter_view<T>>(parameters));
}

/// The Euclidean norm of all gradients together, summed in double.
template <std::floating_point T>
[[nodiscard]] double gradient_norm(std::span<const parameter_view<T>> parameters) {
  double sum = 0;
  for (const parameter_view<T>& p : parameters) {
    for (index_t i = 0; i < p.size(); ++i) {
      const auto g = static_cast<double>(p.gradient[i]);
      sum += g * g;
    }
  }
  return std::sqrt(sum);
}

/// Scales all gradients so that their norm is at most `largest`.
///
/// @returns the norm before
/// @throws qlr::error invalid_argument: largest is not positive
template <std::floating_point T>
double clip_gradients(std::span<const parameter_view<T>> parameters, double largest) {
  require(largest > 0, status_code::invalid_argument, "largest gradient norm is ", largest,
          ", it must be positive");
  const double norm = gradient_norm(parameters);
  if (!(norm > largest)) return norm;
  const double factor = largest / norm;
  for (const parameter_view<T>& p : parameters) {
    for (index_t i = 0; i < p.size(); ++i)
      p.gradient[i] = static_cast<T>(factor * static_cast<double>(p.gradient[i]));
  }
  return norm;
}

/// @copydoc gradient_norm
template <std::floating_point T>
[[nodiscard]] double gradient_norm(const std::vector<parameter_view<T>>& parameters) {
  return gradient_norm(std::span<const parameter_view<T>>(parameters));
}

/// @copydoc clip_gradients
template <std::floating_point T>
double clip_gradients(const std::vector<parameter_view<T>>& parameters, double largest) {
  return clip_gradients(std::span<const parameter_view<T>>(parameters), largest);
}

} // namespace qlr::train
