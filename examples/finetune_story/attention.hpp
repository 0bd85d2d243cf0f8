// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/batch.hpp>
#include <finetune_story/elementwise.hpp>
#include <finetune_story/product.hpp>
#include <story/checkpoint.hpp>

#include <qlr/core/parallel.hpp>

#include <cmath>

/// What attention reads and writes, one row per token: (t, dim) or (t, kv_dim).
template <class T>
struct attention_operands {
  qlr::matrix_view<T> queries; ///< rotated, as keys
  qlr::matrix_view<T> keys;
  qlr::matrix_view<T> values;
  qlr::matrix_view<T> attended;
};

/// Causal attention of `num_heads` heads that share the keys and values of `num_kv_heads`; without weights.
///
/// For each text and head: P = softmax(Q K^T / sqrt(head_dim)) over what is not later, O = P V.
template <class T>
class attention {
public:
  explicit attention(const model_config& config)
      : num_kv_heads_(config.num_kv_heads), group_(config.num_heads / config.num_kv_heads),
        size_(config.head_dim()), scale_(T{1} / std::sqrt(static_cast<T>(config.head_dim()))) {}

  /// Writes x.attended.
  ///
  /// @param[out] probabilities  P of every text and head, (sequences * num_heads * length, length)
  void forward(batch_shape shape, const attention_operands<T>& x, qlr::matrix_view<T> probabilities,
               const qlr::executor& run) const {
    auto task = [&](qlr::index_t index) { // a text and a head
      const head_of_text at = head_at(shape, index);
      const qlr::matrix_view<T> p = probabilities.middle_rows(index * shape.length, shape.length);
      write_product(as_eigen(p), as_eigen(at.query(x.queries)), as_eigen(at.key(x.keys)).transpose());
      for (qlr::index_t t = 0; t < shape.length; ++t) {
        apply_softmax(p.row(t), t + 1, scale_);
        for (qlr::index_t later = t + 1; later < shape.length; ++later) p(t, later) = T{0};
      }
      write_product(as_eigen(at.query(x.attended)), as_eigen(p), as_eigen(at.key(x.values)));
    };
    run(shape.sequences * num_kv_heads_ * group_, task);
  }

  /// Writes the gradients of queries, keys and values; grad.attended is what came from above.
  ///
  /// With G the gradient of O: dV = P^T G, dS = P (G V^T - rowsum(G O)) elementwise, dQ = dS K /
  /// sqrt(head_dim), dK = dS^T Q / sqrt(head_dim); heads that share keys are added in order.
  /// @param[out] scratch  (sequences * num_kv_heads * length, length)
  void backward(batch_shape shape, const attention_operands<T>& x, qlr::matrix_view<const T> probabilities,
                const attention_operands<T>& grad, qlr::matrix_view<T> scratch,
                const qlr::executor& run) const {
    auto task = [&](qlr::index_t index) { // a text and a head of keys
      const qlr::matrix_view<T> scores = scratch.middle_rows(index * shape.length, shape.length);
      for (qlr::index_t i = 0; i < group_; ++i) {
        const qlr::index_t head = index * group_ + i;
        backward_head(head_at(shape, head), x, probabilities.middle_rows(head * shape.length, shape.length),
                      grad, scores, i > 0);
      }
    };
    run(shape.sequences * num_kv_heads_, task);
  }

private:
  /// The rows of a text and the columns of a head.
  struct head_of_text {
    qlr::index_t first_row;
    qlr::index_t rows;
    qlr::index_t query_column;
    qlr::index_t key_column;
    qlr::index_t size;

    [[nodiscard]] qlr::matrix_view<T> query(qlr::matrix_view<T> x) const {
      return middle_columns(x.middle_rows(first_row, rows), query_column, size);
    }
    [[nodiscard]] qlr::matrix_view<T> key(qlr::matrix_view<T> x) const {
      return middle_columns(x.middle_rows(first_row, rows), key_column, size);
    }
  };

  [[nodiscard]] head_of_text head_at(batch_shape shape, qlr::index_t index) const {
    const qlr::index_t num_heads = num_kv_heads_ * group_;
    const qlr::index_t head = index % num_heads;
    return {index / num_heads * shape.length, shape.length, head * size_, head / group_ * size_, size_};
  }

  void backward_head(const head_of_text& at, const attention_operands<T>& x, qlr::matrix_view<const T> p,
                     const attention_operands<T>& grad, qlr::matrix_view<T> scores, bool adds_keys) const {
    const auto g = as_eigen(at.query(grad.attended));
    write_product(as_eigen(scores), g, as_eigen(at.key(x.values)).transpose());
    for (qlr::index_t t = 0; t < at.rows; ++t) {
      const T mean = dot_product(at.query(grad.attended).row(t), at.query(x.attended).row(t), size_);
      for (qlr::index_t s = 0; s < at.rows; ++s) scores(t, s) = scale_ * p(t, s) * (scores(t, s) - mean);
    }
    if (!adds_keys) {
      as_eigen(at.key(grad.keys)).setZero();
      as_eigen(at.key(grad.values)).setZero();
    }
    write_product(as_eigen(at.query(grad.queries)), as_eigen(scores), as_eigen(at.key(x.keys)));
    add_product(as_eigen(at.key(grad.keys)), as_eigen(scores).transpose(), as_eigen(at.query(x.queries)));
    add_product(as_eigen(at.key(grad.values)), as_eigen(p).transpose(), g);
  }

  qlr::index_t num_kv_heads_;
  qlr::index_t group_; ///< heads that share keys and values
  qlr::index_t size_;  ///< of a head
  T scale_;
};
