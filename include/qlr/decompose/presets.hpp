// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/decompose/options.hpp>

#include <array>
#include <string>
#include <string_view>

namespace qlr {

/// A published method: its schedule, and what it is usually combined with.
struct preset {
  std::string_view name;
  std::string_view source;
  std::string_view summary;
  std::string_view quantizer; ///< format used when the caller names none
  bool uses_fisher;           ///< takes a Fisher metric when one is given
  schedule steps;
};

/// Every method; a new paper is one entry here.
inline constexpr auto presets = std::to_array<preset>({
    {"qlora",
     "Dettmers et al., arXiv 2305.14314",
     "Q only; the adapter starts at zero",
     "nf4",
     false,
     {.has_low_rank = false}},
    {"loftq",
     "Li et al., arXiv 2310.08659, algorithm 1",
     "Q, then SVD of the error, repeated",
     "nf4",
     false,
     {.iterations = 5}},
    {"lq-lora",
     "Guo et al., arXiv 2311.12023, algorithm 2",
     "SVD, then Q, until the error rises",
     "nf4",
     true,
     // A rise of the fifth digit ends the original's loop at random; its results are met with a second try.
     {.first = half_step::low_rank, .iterations = 100, .stop = stop_rule::error_rises, .patience = 2}},
    {"zeroquant-v2",
     "Yao et al., arXiv 2303.08302 (LoRC)",
     "Q, then one SVD of the error",
     "int4",
     false,
     {}},
    {"lqer",
     "Zhang et al., arXiv 2402.02446",
     "Q in block floating point, then one SVD of the error",
     "bfp4",
     false,
     {.split = sigma_split::left}},
    {"best",
     "this library",
     "scale search and over-relaxed alternation from the SVD of W",
     "nf4",
     true,
     {.starts_from_weight = true,
      .iterations = 40,
      .stop = stop_rule::stalls,
      .searches_scales = true,
      .compares_plain = true,
      .relaxation = 0.25F,
      .relaxed_iterations = 22}},
});

/// @throws qlr::error invalid_argument: no method has this name; the message lists all
[[nodiscard]] inline const preset& find_preset(std::string_view name) {
  std::string names;
  for (const preset& method : presets) {
    if (method.name == name) return method;
    names += sentence(names.empty() ? "" : ", ", method.name);
  }
  fail(status_code::invalid_argument, "method is '", name, "', allowed are ", names);
}

} // namespace qlr
