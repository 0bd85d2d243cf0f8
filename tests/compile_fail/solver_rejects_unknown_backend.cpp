// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (constraint|backend_policy)

#include <qlr/lowrank/randomized_svd.hpp>

struct some_matrix {};

/// Has memory but no arithmetic.
struct storage_only {
  using matrix_type = some_matrix;
  [[nodiscard]] static some_matrix allocate(qlr::index_t, qlr::index_t) { return {}; }
};

/// What backend_policy asks for.
struct complete : storage_only {
  static void copy(const some_matrix&, some_matrix&) {}
  static void copy_rows(const some_matrix&, qlr::index_t, some_matrix&, qlr::index_t) {}
  static void copy_cols(const some_matrix&, some_matrix&) {}
  static void gemm(qlr::transpose, float, const some_matrix&, const some_matrix&, float, some_matrix&) {}
  static void fill_random(some_matrix&, qlr::index_t, std::uint64_t) {}
  static float orthonormalize_rows(some_matrix&) { return 0; }
  [[nodiscard]] static qlr::singular_triplets<some_matrix> small_svd(const some_matrix&) { return {}; }
  [[nodiscard]] static qlr::singular_triplets<some_matrix> svd(const some_matrix&, qlr::index_t) {
    return {};
  }
  static void scale_rows(some_matrix&, const some_matrix&, float) {}
};

#ifdef QLR_MISTAKE
using solver = qlr::randomized_svd<storage_only>;
#else
using solver = qlr::randomized_svd<complete>;
#endif

solver make() {
  return solver();
}
