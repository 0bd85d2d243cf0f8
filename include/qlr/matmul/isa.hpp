// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

// Kernels are compiled with function attributes, whatever the flags of the including file.
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) && !defined(__CUDACC__)
#define QLR_HAS_X86_KERNELS 1
#else
#define QLR_HAS_X86_KERNELS 0
#endif
#if (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__) && defined(__ARM_NEON) &&              \
    !defined(__CUDACC__)
#define QLR_HAS_NEON_KERNELS 1
#else
#define QLR_HAS_NEON_KERNELS 0
#endif

#if QLR_HAS_NEON_KERNELS
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#endif

namespace qlr {

/// Instruction sets that the matrix product has kernels for; those of one machine from the most general to
/// the fastest.
enum class isa {
  scalar,      ///< any machine
  avx2,        ///< AVX2, FMA, F16C
  avx512,      ///< AVX-512 F, BW, VL, DQ
  avx512_vnni, ///< also VNNI and VBMI: Ice Lake, Zen 4 and later
  neon,        ///< AdvSIMD: every AArch64 machine
  neon_dotprod ///< also the dot products of Armv8.2: Cortex-A76, Neoverse N1, Apple M1 and later
};

inline constexpr auto all_isas =
    std::to_array<isa>({isa::scalar, isa::avx2, isa::avx512, isa::avx512_vnni, isa::neon, isa::neon_dotprod});

[[nodiscard]] constexpr std::string_view to_string(isa set) {
  constexpr std::array<std::string_view, all_isas.size()> names{"scalar",      "avx2", "avx512",
                                                                "avx512_vnni", "neon", "neon_dotprod"};
  return names[static_cast<std::size_t>(set)];
}

#if QLR_HAS_NEON_KERNELS
namespace matmul_detail {

/// True when the machine has SDOT, an extension that later versions of the architecture made mandatory.
[[nodiscard]] inline bool has_dot_product() {
#if defined(__linux__)
  constexpr unsigned long asimd_dot_product = 1UL << 20U; // HWCAP_ASIMDDP, which old C libraries do not name
  return (getauxval(AT_HWCAP) & asimd_dot_product) != 0;
#elif defined(__APPLE__)
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &size, nullptr, 0) == 0 && value != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
  return true; // the whole build asks for it
#else
  return false;
#endif
}

} // namespace matmul_detail
#endif

/// True when this machine and this build can run the kernels of a set.
[[nodiscard]] inline bool is_available(isa set) {
  switch (set) {
  case isa::scalar:
    return true;
#if QLR_HAS_X86_KERNELS
  case isa::avx2:
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  case isa::avx512:
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  case isa::avx512_vnni:
    return is_available(isa::avx512) && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi");
#endif
#if QLR_HAS_NEON_KERNELS
  case isa::neon:
    return true;
  case isa::neon_dotprod:
    return matmul_detail::has_dot_product();
#endif
  default:
    return false;
  }
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
