// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/matmul.hpp>

template class qlr::matmul_call<float>;
template class qlr::matmul_call<qlr::bfloat16>;
template class qlr::matmul_call<qlr::float16>;
