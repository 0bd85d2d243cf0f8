// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/matmul.hpp>

namespace qlr {

// The constructor brings in the kernels of all instruction sets, so matmul.cpp compiles them once.
extern template class matmul_call<float>;
extern template class matmul_call<bfloat16>;
extern template class matmul_call<float16>;

} // namespace qlr
