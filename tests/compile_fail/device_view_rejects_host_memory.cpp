// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (could not convert|no matching function|no known conversion|no viable conversion|cannot convert)

#include <qlr/core/matrix_view.hpp>

/// Takes device memory, as everything in cuda/ does.
qlr::index_t rows_on_device(qlr::matrix_view<const float, qlr::device_space> weight) {
  return weight.rows();
}

qlr::index_t use(float* data) {
#ifdef QLR_MISTAKE
  return rows_on_device(qlr::matrix_view<float>(data, 1, 1));
#else
  return rows_on_device(qlr::matrix_view<float, qlr::device_space>(data, 1, 1));
#endif
}
