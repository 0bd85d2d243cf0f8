// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <support/adapter.hpp>

template class qlr::host::detail::adapter_quantizer<float>;
