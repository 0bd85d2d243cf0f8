// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/train/concepts.hpp>
#include <qlr/train/detail/weight_rows.hpp>

#include <string>
#include <vector>

namespace qlr::train {

/// A linear layer whose whole weight W (m,n) is trained: what the others are compared with.
template <storage_scalar Storage>
class dense_layer {
public:
  using compute_type = compute_t<Storage>;

  /// @param weight  W (m,n), any strides
  explicit dense_layer(matrix_view<const float> weight) : weight_(weight.rows(), weight.cols()) {
    weight_.assign(weight);
  }

  [[nodiscard]] index_t rows() const { return weight_.rows(); }
  [[nodiscard]] index_t cols() const { return weight_.cols(); }

  /// See trainable_layer.
  ///
  /// @throws qlr::error shape_mismatch, invalid_argument: X or Y does not fit
  void forward(matrix_view<const compute_type> x, matrix_view<compute_type> y,
               const executor& run = {}) const {
    detail::multiply_rows(*this, x, y, run);
  }
  /// @copydoc forward
  void backward(matrix_view<const compute_type> x, matrix_view<const compute_type> grad_y,
                matrix_view<compute_type> grad_x, const executor& run = {}) {
    detail::differentiate_rows(*this, x, grad_y, grad_x, run);
  }

  [[nodiscard]] std::vector<parameter_view<compute_type>> parameters(const std::string& prefix = {}) {
    return {weight_.view(prefix + "weight")};
  }
  [[nodiscard]] index_t stored_bytes() const {
    return weight_.size() * static_cast<index_t>(sizeof(Storage));
  }
  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.values(prefix + "weight", weight_.values());
  }

  /// See detail::row_weight.
  struct tile {
    tile(index_t rows, index_t cols) : weight(rows, cols) {}
    matrix<compute_type> weight;
  };
  struct shared_sums {};
  void load(index_t first, tile& rows) const { weight_.load_rows(first, rows.weight.view()); }
  [[nodiscard]] static shared_sums sums() { return {}; }
  void add_gradient(index_t first, const tile& /*rows*/, matrix_view<const compute_type> gradient,
                    shared_sums& /*sums*/) {
    detail::map(weight_.gradient().view().middle_rows(first, gradient.rows())) += detail::map(gradient);
  }
  static void add(const shared_sums& /*sums*/) {}

private:
  parameter<Storage> weight_;
};

static_assert(trainable_layer<dense_layer<float>> && detail::row_weight<dense_layer<float>>);

} // namespace qlr::train
