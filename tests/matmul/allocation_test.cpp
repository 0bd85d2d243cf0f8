// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// A product on a workspace allocates nothing; this file replaces the allocation functions of its program.
#include "support.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>

using namespace qlr;
using namespace qlr::test;

namespace {

std::atomic<long> num_allocations{0};

void* allocate(std::size_t size, std::size_t alignment) {
  ++num_allocations;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded)) return memory;
  throw std::bad_alloc();
}

} // namespace

void* operator new(std::size_t size) {
  return allocate(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

TEST_CASE("matmul: a call on a workspace allocates nothing and does not throw", "[matmul][threads]") {
  const problem p = make_problem(make_quantizer("nf4"), 70, 200, 9);
  const matrix<float> x = normal_matrix(5, 200, 4);
  const matrix<float> left = normal_matrix(70, 17, 5);
  const matrix<float> right = normal_matrix(17, 200, 6);
  const std::array<std::int32_t, 5> ids{0, -1, 0, 0, -1};
  matrix<float> y(5, 70);
  thread_pool pool(2);
  const executor threads(pool);
  for (const isa set : available_sets()) {
    const packed_weights packed = p.pack(set);
    const packed_factors adapter = prepack_factors(left.view(), right.view(), 1.0F, set);
    const std::array<const packed_factors*, 1> adapters{&adapter};
    for (const precision mode : all_precisions) {
      CAPTURE(to_string(set), to_string(mode));
      const matmul_options options{.mode = mode, .adapters = adapters, .adapter_of_token = ids.data()};
      matmul_workspace workspace(packed, 5, mode, adapter.rank());
      const long before = num_allocations;
      matmul(packed, x.view(), y.view(), options, workspace, threads);
      workspace.reserve(packed, 4, mode, adapter.rank());
      matmul(packed, x.view(), y.view(), options, workspace);
      CHECK(num_allocations == before);
      const matmul_call<float> call(packed, x.view(), y.view(), options, workspace);
      STATIC_REQUIRE(noexcept(call.run(0, 0, 1)));
      STATIC_REQUIRE(noexcept(call.run_task(0, 0)));
    }
  }
  CHECK(num_allocations > 0); // the functions above are in use
}
