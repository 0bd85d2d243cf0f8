// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <array>
#include <string_view>

// What is swept, how often, and what counts as noise: every benchmark takes these from here.
namespace qlr::bench {

/// Shape of the quantization benchmarks: an attention projection of a 7B language model.
inline constexpr index_t quantize_rows = 4096;
inline constexpr index_t quantize_cols = 4096;

/// Square sizes of the decomposition benchmarks.
inline constexpr std::array<index_t, 4> decompose_rows{512, 1024, 2048, 4096};
inline constexpr index_t decompose_rank = 64;
inline constexpr index_t method_rows = 1024;
inline constexpr index_t scaling_rows = 2048;

/// Largest size at which the full-SVD peer runs; --peer-size=N raises it.
inline constexpr index_t default_peer_size = 1024;

/// Calls before the clock starts, and timed calls, of a streaming benchmark.
inline constexpr int warm_ups = 2;
inline constexpr int timed_calls = 15;

/// Timed calls of a decomposition, after the one that is verified.
inline constexpr int decompose_calls = 3;

/// A row whose interquartile range over its median exceeds this is labelled noisy.
inline constexpr double noise_limit_rel = 0.10;

/// A named format and how far its error may be above that of a plain absmax (min-max with zero points) loop.
struct format_axis {
  std::string_view name;
  bool searches_scales;
  int first_code;     ///< codes below it are never written
  double error_limit; ///< exponents and 8-bit floats as scales cost accuracy, by the formats' own design
};

inline constexpr auto formats = std::to_array<format_axis>({
    {"int4", false, 0, 1.005},
    {"uint4", false, 0, 1.005},
    {"nf4", false, 0, 1.005},
    {"nf2", false, 0, 1.005},
    {"nf3", false, 0, 1.005},
    {"fp4", false, 0, 1.005},
    {"mxint4", false, 1, 1.6},
    {"mxfp4", false, 0, 1.4},
    {"nvfp4", false, 0, 1.06},
    {"q4_0", false, 0, 1.005},
    {"iq4_nl", false, 0, 1.005},
    {"int8", false, 0, 1.005},
    {"sign", false, 0, 1.005},
    {"nf4", true, 0, 1.0},
});

} // namespace qlr::bench
