// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (no matching function|could not find)

#include <qlr/host/decompose.hpp>

#include <type_traits>
#include <utility>

#ifdef QLR_MISTAKE
using element = int;
#else
using element = double;
#endif

// Declared only: the body takes long to compile.
using weights = Eigen::Matrix<element, Eigen::Dynamic, Eigen::Dynamic>;
using result =
    decltype(qlr::decompose(weights(), std::declval<const qlr::any_quantizer&>(), qlr::decompose_options()));
static_assert(std::is_same_v<result, qlr::decompose_result>);
