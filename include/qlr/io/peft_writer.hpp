// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/io/detail/peft_config_text.hpp>
#include <qlr/io/detail/peft_names.hpp>
#include <qlr/io/safetensors.hpp>

#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace qlr::io {

// A new adapter for PEFT is a folder with adapter_model.safetensors, which holds the tensors of every module,
// and adapter_config.json; peft.hpp documents both.

/// The tensors lora_A and lora_B of one module, so that PEFT adds s L R to its weight with the scale 1.
///
/// s is multiplied into lora_B = s L.
/// @param module  name in the base model, such as model.layers.0.self_attn.q_proj
/// @param left    L (m,r), r >= 1
/// @param right   R (r,n)
/// @param type    F32, or F16 and BF16, which round
/// @throws qlr::error invalid_argument: an empty name, rank or matrix, or another type
/// @throws qlr::error shape_mismatch: L and R do not fit
/// @throws qlr::error non_finite: NaN or infinity in L, R or s
/// @throws qlr::error unsupported: an entry of s L or R beyond the range of the type
[[nodiscard]] inline std::vector<owned_tensor> peft_tensors(const std::string& module,
                                                            matrix_view<const float> left,
                                                            matrix_view<const float> right, float scale,
                                                            dtype type = dtype::f32) {
  require(!module.empty(), status_code::invalid_argument,
          "module is '', allowed are names of modules of the base model");
  require(type == dtype::f32 || type == dtype::f16 || type == dtype::bf16, status_code::invalid_argument,
          "dtype is ", dtype_name(type), ", allowed are F32, F16 and BF16");
  require(left.cols() == right.rows(), status_code::shape_mismatch, "factors of ", detail::quote(module),
          " are ", left.rows(), " x ", left.cols(), " and ", right.rows(), " x ", right.cols(),
          ", their ranks differ");
  require(left.rows() > 0 && left.cols() > 0 && right.cols() > 0, status_code::invalid_argument,
          "factors of ", detail::quote(module), " are ", left.rows(), " x ", left.cols(), " and ",
          right.rows(), " x ", right.cols(), ", PEFT loads no empty ones; leave out modules of rank 0");
  require(is_finite(scale), status_code::non_finite, "scale is ", scale, ", it must be finite");
  require_finite(left, "L");
  require_finite(right, "R");
  matrix<float> scaled = to_row_major(left);
  for (index_t i = 0; i < scaled.size(); ++i) scaled.data()[i] *= scale;
  const auto make = [&](const char* kind, matrix_view<const float> factor) {
    const std::string name = "base_model.model." + module + kind;
    return owned_tensor{name,
                        type,
                        {factor.rows(), factor.cols()},
                        detail::factor_bytes(factor, factor.rows(), factor.cols(), type, name)};
  };
  return {make(".lora_A.weight", right), make(".lora_B.weight", std::as_const(scaled).view())};
}

/// The text of adapter_config.json for tensors of peft_tensors.
///
/// r is the most frequent rank, rank_pattern and alpha_pattern hold the others, and lora_alpha = r makes
/// every scale 1. target_modules lists whole names, so that PEFT adapts no module whose tensors are missing;
/// PEFT also takes a module whose name ends in a dot and one of these names.
/// @param modules     every module with its rank, 1 and above
/// @param base_model  name or path of the base model; empty: null
/// @throws qlr::error invalid_argument: no module, an empty name, a name given twice, or a rank below 1
[[nodiscard]] inline std::string peft_config_json(std::span<const std::pair<std::string, index_t>> modules,
                                                  const std::string& base_model) {
  constexpr auto invalid = status_code::invalid_argument;
  require(!modules.empty(), invalid, "modules is empty, an adapter has at least one module");
  std::set<std::string> names;
  for (const auto& [module, rank] : modules) {
    require(!module.empty(), invalid, "a module is named '', allowed are names of modules of the base model");
    require(names.insert(module).second, invalid, "module ", detail::quote(module), " is given twice");
    require(rank >= 1, invalid, "the rank of ", detail::quote(module), " is ", rank,
            ", allowed are 1 and above");
  }
  return detail::peft_config_text(modules, base_model, "CAUSAL_LM");
}

} // namespace qlr::io
