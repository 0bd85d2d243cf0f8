// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (could not convert|no matching function|no known conversion|no viable conversion|cannot convert)

#include <qlr/core/matrix_view.hpp>

float first(qlr::matrix_view<const float> view) {
  return view(0, 0);
}

float use(float* data) {
#ifdef QLR_MISTAKE
  return first(qlr::matrix_view<float, qlr::device_space>(data, 1, 1));
#else
  return first(qlr::matrix_view<float>(data, 1, 1));
#endif
}
