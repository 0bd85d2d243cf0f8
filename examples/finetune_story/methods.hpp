// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/block.hpp>
#include <finetune_story/weights.hpp>

#include <qlr/core/matrix.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// What of a linear layer a method trains.
enum class method_kind {
  dense,    ///< the weight itself
  low_rank, ///< L and R over a fixed Q
  loqt,     ///< one factor, merged into Q every now and then
  lr_qat,   ///< integers, through a low-rank change
  lrq       ///< what weights are divided by before they are rounded
};

/// A way to train the linear layers of a model.
struct training_method {
  std::string_view name;
  method_kind kind;
  std::string_view start;     ///< low_rank: the preset that gives Q, L and R
  std::string_view quantizer; ///< the name of the format without its bits
  double rate_2bit;           ///< learning rate at 2 bits; benchmarks/results tell how the three were chosen
  double rate;                ///< at 3 and 4 bits, or without quantization
  double scratch_rate;        ///< for random weights
  std::string_view summary;
};

inline constexpr auto training_methods = std::to_array<training_method>({
    {"full", method_kind::dense, "", "", 1e-4, 1e-4, 4e-3, "all weights, not quantized"},
    {"qlora", method_kind::low_rank, "qlora", "nf", 1e-2, 5e-3, 1e-2, "L R over Q, from zero"},
    {"loftq", method_kind::low_rank, "loftq", "nf", 4e-3, 2e-3, 1e-2, "L R over Q, from LoftQ"},
    {"lq-lora", method_kind::low_rank, "lq-lora", "nf", 4e-3, 5e-4, 1e-2, "L R over Q, from LQ-LoRA"},
    {"qera-exact", method_kind::low_rank, "qera-exact", "nf", 4e-3, 1e-3, 1e-2,
     "L R over Q, from QERA-exact"},
    {"best", method_kind::low_rank, "best", "nf", 2e-3, 5e-4, 1e-2, "L R over Q, from this library's best"},
    {"loqt", method_kind::loqt, "", "nf", 1e-2, 2e-3, 1e-2, "one factor, merged into Q now and then"},
    {"lr-qat", method_kind::lr_qat, "", "int", 1e-2, 1e-2, 1e-2, "integers, through a low-rank change"},
    {"lrq", method_kind::lrq, "", "uint", 1e-2, 5e-3, 1e-2, "low-rank scales of the rounding"},
});

/// @throws qlr::error invalid_argument: no method has this name; the message lists all
[[nodiscard]] const training_method& find_training_method(std::string_view name);

/// What the parameters are stored in.
enum class parameter_storage { fp32, bf16 };

/// How layers are made.
struct layer_options {
  qlr::index_t rank = 8; ///< smaller matrices have as much as they can
  qlr::index_t group_size = 64;
  parameter_storage storage = parameter_storage::fp32;
};

/// One training: a method at a number of bits with a seed of its own.
struct run_key {
  const training_method* method = nullptr;
  int bits = 0; ///< 0 where nothing is quantized
  std::uint64_t seed = 0;

  /// Such as "loftq-2-1".
  [[nodiscard]] std::string file_stem() const;
  /// Such as "loftq, 2 bits, seed 1".
  [[nodiscard]] std::string description() const;
};

/// Covariances of the inputs of every linear layer, block by block.
using layer_covariances = std::vector<qlr::matrix<double>>;

/// What the linear layers read while a model reads tokens (texts of `shape.length`).
[[nodiscard]] layer_covariances measure_covariances(const model_weights& weights, batch_shape shape,
                                                    const std::vector<token_t>& tokens);

/// The format of a method at some bits, such as nf2.
[[nodiscard]] std::string format_name(const run_key& key);

/// Makes the layers of a run; the covariances must outlive the factory.
///
/// @throws qlr::error as the layers and qlr::decompose, when it is called
[[nodiscard]] layer_factory<float> make_layer_factory(const run_key& key, const layer_options& options,
                                                      const layer_covariances& covariances);
