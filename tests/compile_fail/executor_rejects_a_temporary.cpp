// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (cannot bind|no viable conversion)

#include <qlr/core/parallel.hpp>

void use(qlr::thread_pool& pool) {
#ifdef QLR_MISTAKE
  const qlr::executor run = qlr::thread_pool(2); // would refer to a dead pool
#else
  const qlr::executor run = pool;
#endif
  (void)run;
}
