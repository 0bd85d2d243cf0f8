// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

// Kernels for x86 are compiled with function attributes, whatever the flags of the including file.
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) && !defined(__CUDACC__)
#define QLR_HAS_X86_KERNELS 1
#else
#define QLR_HAS_X86_KERNELS 0
#endif

namespace qlr {

/// Instruction sets that the matrix product has kernels for, from the most general to the fastest.
enum class isa {
  scalar,     ///< any machine
  avx2,       ///< AVX2, FMA, F16C
  avx512,     ///< AVX-512 F, BW, VL, DQ
  avx512_vnni ///< also VNNI and VBMI: Ice Lake, Zen 4 and later
};

inline constexpr auto all_isas = std::to_array<isa>({isa::scalar, isa::avx2, isa::avx512, isa::avx512_vnni});

[[nodiscard]] constexpr std::string_view to_string(isa set) {
  constexpr std::array<std::string_view, all_isas.size()> names{"scalar", "avx2", "avx512", "avx512_vnni"};
  return names[static_cast<std::size_t>(set)];
}

/// True when this machine and this build can run the kernels of a set.
[[nodiscard]] inline bool is_available(isa set) {
#if QLR_HAS_X86_KERNELS
  switch (set) {
  case isa::scalar:
    return true;
  case isa::avx2:
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  case isa::avx512:
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  case isa::avx512_vnni:
    return is_available(isa::avx512) && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi");
  }
  return false;
#else
  return set == isa::scalar;
#endif
}

/// @throws qlr::error invalid_argument: no set has this name
[[nodiscard]] inline isa parse_isa(std::string_view name) {
  std::string names;
  for (const isa set : all_isas) {
    if (to_string(set) == name) return set;
    names += sentence(names.empty() ? "" : ", ", to_string(set));
  }
  fail(status_code::invalid_argument, "instruction set is '", name, "', allowed are ", names);
}

/// @throws qlr::error unsupported: this machine or this build lacks the set
inline void require_available(isa set) {
  require(is_available(set), status_code::unsupported, "instruction set ", to_string(set),
          " is not available on this machine");
}

/// The set that prepack() uses when it is told none: the environment variable QLR_ISA, else the fastest.
///
/// @throws qlr::error invalid_argument, unsupported: QLR_ISA names no set, or one that this machine lacks
[[nodiscard]] inline isa default_isa() {
  if (const char* forced = std::getenv("QLR_ISA"); forced != nullptr && *forced != '\0') {
    const isa set = parse_isa(forced);
    require_available(set);
    return set;
  }
  isa best = isa::scalar;
  for (const isa set : all_isas) {
    if (is_available(set)) best = set;
  }
  return best;
}

} // namespace qlr
