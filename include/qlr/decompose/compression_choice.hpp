// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/quant/formats.hpp>

#include <span>
#include <string>
#include <vector>

namespace qlr {

/// One way to store a matrix as Q + L R: everything that decides its bytes.
struct compression_choice {
  std::string quantizer = "nf4"; ///< a name of named_formats
  format_options format{};       ///< what is empty is the format's own
  index_t rank = 0;
  factor_storage factors = factor_storage::fp16;
};

/// @throws qlr::error invalid_argument: as make_quantizer of a name
[[nodiscard]] inline any_quantizer make_quantizer(const compression_choice& choice) {
  return make_quantizer(choice.quantizer, choice.format);
}

/// For people, such as "nf4 64 dq:8,fp32,256 rank 4".
[[nodiscard]] inline std::string to_string(const compression_choice& choice) {
  const format_description& format = find_format(choice.quantizer);
  std::string text = sentence(choice.quantizer, ' ', choice.format.group_size.value_or(format.group_size),
                              ' ', to_string(choice.format.scales.value_or(format.scales)));
  if (choice.rank > 0) text += sentence(" rank ", choice.rank);
  if (choice.rank > 0 && choice.factors != factor_storage::fp16)
    text += sentence(' ', to_string(choice.factors));
  return text;
}

/// True when a matrix of this shape can be stored so: its rows hold a whole group and its rank is not larger
/// than the matrix.
[[nodiscard]] inline bool suits(const compression_choice& choice, index_t rows, index_t cols) {
  const index_t group = choice.format.group_size.value_or(0);
  return choice.rank >= 0 && choice.rank <= std::min(rows, cols) && group <= cols;
}

/// The grid of LQ-LoRA, for each rank: code bits 2, 3, 4, 8; scale bits 2, 3, 4, 8; bf16, fp16, fp32; groups
/// of 16, 32, 64; superblocks of 16, 64, 256 scales; 432 choices in this order, the last varies fastest.
///
/// @see Guo et al., LQ-LoRA, arXiv 2311.12023, section 3.2
[[nodiscard]] inline std::vector<compression_choice> lq_lora_grid(std::span<const index_t> ranks) {
  std::vector<compression_choice> choices;
  for (const index_t rank : ranks) {
    for (const char* const quantizer : {"nf2", "nf3", "nf4", "nf8"}) {
      for (const int scale_bits : {2, 3, 4, 8}) {
        for (const scale_type type : {scale_type::bf16, scale_type::fp16, scale_type::fp32}) {
          for (const index_t group : {16, 32, 64}) {
            for (const index_t block : {16, 64, 256}) {
              choices.push_back({quantizer, {group, double_quantized(scale_bits, type, block), false}, rank});
            }
          }
        }
      }
    }
  }
  return choices;
}

/// A dozen choices for each rank, 2.13 to 8.25 bits: for quick runs and few distinct formats.
[[nodiscard]] inline std::vector<compression_choice> small_grid(std::span<const index_t> ranks) {
  std::vector<compression_choice> choices;
  for (const index_t rank : ranks) {
    for (const char* const quantizer : {"nf2", "nf3", "nf4", "nf8"}) {
      for (const index_t group : {64, 32, 16}) {
        choices.push_back({quantizer, {group, double_quantized(), false}, rank});
      }
    }
  }
  return choices;
}

} // namespace qlr
