// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/quant/dequantize.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/detail/factors.hpp>
#include <qlr/train/detail/quantized_state.hpp>
#include <qlr/train/storage.hpp>

#include <optional>
#include <string>
#include <utility>

namespace qlr::train::detail {

/// Vectors that are not trained, one per row (r,length): as Storage, or quantized along each vector.
template <storage_scalar Storage>
class projection {
public:
  /// Zeros.
  ///
  /// @throws qlr::error invalid_argument: the quantizer's group size does not suit the length
  projection(index_t rank, index_t length, std::optional<any_quantizer> quantizer)
      : quantizer_(std::move(quantizer)) {
    if (quantizer_) {
      const matrix<float> zeros(rank, length, 0.0F);
      quantized_ = qlr::quantize(zeros.view(), *quantizer_);
    } else {
      plain_ = matrix<Storage>(rank, length, Storage{});
    }
  }

  void assign(const matrix<float>& vectors, const executor& run) {
    if (quantizer_) {
      quantized_ = quantizer_->quantize(vectors.view(), {}, run);
      return;
    }
    for (index_t i = 0; i < vectors.size(); ++i)
      plain_.data()[i] = store<Storage>(static_cast<compute_t<Storage>>(vectors.data()[i]));
  }

  /// What is stored, which float holds exactly because it was assigned from float.
  [[nodiscard]] matrix<float> vectors() const {
    if (quantizer_) return dequantize(quantized_);
    matrix<float> out(plain_.rows(), plain_.cols());
    for (index_t i = 0; i < out.size(); ++i) out.data()[i] = static_cast<float>(load(plain_.data()[i]));
    return out;
  }

  [[nodiscard]] index_t stored_bytes() const {
    return quantizer_ ? quantized_.layout().storage_bytes()
                      : plain_.size() * static_cast<index_t>(sizeof(Storage));
  }

  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    if (quantizer_) {
      visit_quantized(archive, prefix + ".", quantized_);
    } else {
      archive.values(prefix, plain_);
    }
  }

private:
  std::optional<any_quantizer> quantizer_;
  quantized_matrix quantized_;
  matrix<Storage> plain_;
};

} // namespace qlr::train::detail
