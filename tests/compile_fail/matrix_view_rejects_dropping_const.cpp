// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (could not convert|no matching function|no viable conversion|conversion from)

#include <qlr/core/matrix_view.hpp>

void clear(qlr::matrix_view<float> view) {
  view(0, 0) = 0;
}

void use(float* data) {
#ifdef QLR_MISTAKE
  clear(qlr::matrix_view<const float>(data, 1, 1));
#else
  clear(qlr::matrix_view<float>(data, 1, 1));
#endif
}
