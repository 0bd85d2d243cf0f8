// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/matmul_support.hpp>
#if !defined(__CUDACC__)
#include <cuda/fakes/fake_device.hpp>
#endif

#include <algorithm>

namespace {

using namespace qlr::test;
using qlr::float16;
using qlr::index_t;

template <class T>
std::string chosen_for(const device_problem<T>& p) {
  const packed_problem<T> packed(p);
  const auto x = qlr::cuda::to_device(std::span<const T>(p.x.data(), static_cast<std::size_t>(p.x.size())));
  qlr::cuda::device_buffer<float> y(p.x.rows() * p.q.rows());
  return std::string(
      device_matmul::chosen_variant<T, float>(packed.weights, {x.data(), p.x.rows(), p.x.cols()},
                                              {y.data(), p.x.rows(), p.q.rows()}, packed.options()));
}

/// Whether device and program have kernels of warpgroups.
bool has_warpgroups() {
  if (!has_device()) return false;
  const std::string name = chosen_for(make_device_problem<float16>("int4", 64, 16, 64, 0, 128));
  if (name.starts_with("prefill_wgmma")) return true;
  std::printf("SKIPPED: not an sm_90a device and program\n");
  return false;
}

template <class T>
device_problem<T> with_everything(device_problem<T> p) {
  const index_t rows = p.q.rows();
  const index_t cols = p.q.cols();
  for (const index_t rank : {index_t{3}, index_t{70}})
    p.adapters.push_back(make_low_rank(rows, cols, rank, 30 + static_cast<std::uint64_t>(rank)));
  for (index_t t = 0; t < p.x.rows(); ++t) p.adapter_of_token.push_back(static_cast<std::int32_t>(t % 3 - 1));
  random_source random(7);
  for (index_t i = 0; i < rows; ++i) p.bias.push_back(static_cast<float>(random.normal()));
  return p;
}

} // namespace

TEST_CASE("warpgroup product: the same as the oracle in every order", "[cuda]") {
  if (!has_warpgroups()) return;
  const auto p = with_everything(make_device_problem<float16>("nf4", 64, 150, 200, 9, 9));
  in_every_order([&] { check_device_product(p, {.variant = "prefill_wgmma_128"}); });
}

TEST_CASE("warpgroup product: awkward shapes", "[cuda]") {
  if (!has_warpgroups()) return;
  check_device_product(make_device_problem<float16>("int4", 0, 1, 1, 0, 1), {.variant = "prefill_wgmma_256"});
  check_device_product(make_device_problem<float16>("int4", 0, 1, 77, 1, 1),
                       {.variant = "prefill_wgmma_128"});
  check_device_product(make_device_problem<float16>("uint4", 32, 257, 127, 17, 129),
                       {.variant = "prefill_wgmma_256"});
  check_device_product(make_device_problem<float16>("uint2", 16, 129, 65, 64, 130),
                       {.variant = "prefill_wgmma_128"});
  check_device_product(make_device_problem<float16>("int3", 128, 40, 300, 65, 3),
                       {.variant = "prefill_wgmma_256"});
  check_device_product(make_device_problem<float16>("nf8", 64, 30, 192, 2, 127),
                       {.variant = "prefill_wgmma_256"});
}

TEST_CASE("warpgroup product: rows of Y that are stored 16 bytes at a time", "[cuda]") {
  if (!has_warpgroups()) return;
  // The start of Y is aligned; the last warps' rows end at, one before and one behind the end of Y.
  for (const index_t rows : {index_t{64}, index_t{128 + 31}, index_t{128 + 33}}) {
    const auto p = with_everything(make_device_problem<float16>("int4", 64, rows, 64, 4, 70));
    const index_t padding = (rows + 7) / 8 * 8 - rows;
    check_device_product(p, {.variant = "prefill_wgmma_128", .place = {.y_offset = 8, .y_padding = padding}});
    check_device_product(p, {.variant = "prefill_wgmma_256", .place = {.y_offset = 8, .y_padding = padding}});
  }
}

TEST_CASE("warpgroup product: slices of the reduction", "[cuda]") {
  if (!has_warpgroups()) return;
  for (const index_t slices : {2, 3, 9}) {
    check_device_product(make_device_problem<float16>("uint3", 48, 140, 500, 5, 7),
                         {.variant = "prefill_wgmma_128", .slices = slices});
    check_device_product(make_device_problem<float16>("q4_0", 32, 20, 512, 5, 7),
                         {.variant = "prefill_wgmma_256", .slices = slices});
  }
}

TEST_CASE("warpgroup product: X is arranged where Q needs it", "[cuda]") {
  if (!has_warpgroups()) return;
  // Groups of 20 columns are padded to 32.
  auto p = with_everything(make_device_problem<float16>("int4", 20, 33, 130, 9, 6));
  check_device_product(p, {.variant = "prefill_wgmma_256", .place = {.x_offset = 1, .y_padding = 3}});
  check_device_product(p, {.variant = "prefill_wgmma_128", .place = {.x_is_transposed = true}});
  auto scaled = make_device_problem<float16>("nf4", 64, 33, 130, 9, 6);
  random_source random(8);
  for (index_t j = 0; j < 130; ++j)
    scaled.input_scales.push_back(static_cast<float>(random.between(0.2, 5.0)));
  check_device_product(scaled, {.variant = "prefill_wgmma_256"});
  check_device_product(scaled, {.variant = "prefill_wgmma_128", .place = {.x_offset = 3, .x_padding = 5}});
}

TEST_CASE("warpgroup product: shared memory suffices for the largest stages", "[cuda]") {
  using namespace qlr::cuda::detail;
  packed_view weights;
  weights.rows = 14336;
  weights.row_tiles = 896;
  weights.columns = qlr::cuda::detail::make_column_map(4096, 16);
  weights.scale_steps = steps_per_scale(weights.columns);
  weights.scale_kind = number_kind::fp32;
  weights.zero_kind = number_kind::fp32;
  const float zero = 0;
  weights.zeros = &zero;
  const qlr::cuda::device_properties h100{0, 90, 132, 227 * 1024, 50 << 20};
  const matmul_plan plan = make_plan(weights, constants_of<8, group_shape<2>>(), false, 4096, 2, 0, h100, 6);
  CHECK(plan.launch.shared_bytes <= h100.shared_bytes_per_block);
  CHECK(plan.launch.blocks == 132);
  CHECK(plan.launch.threads == 256);
  CHECK(plan.schedule.slices == 1);
  const group_memory memory = lay_out_group_memory<8, group_shape<2>>(weights);
  CHECK(memory.x % 1024 == 0);
  CHECK(memory.x >= table_bytes(8));
  CHECK(memory.scale_stage_bytes == 2 * 256 * 4 * 4); // rows, groups of a stage, bytes
  CHECK(memory.scales == memory.x + 6 * 128 * 128);   // stages of 128 tokens of 128 bytes
}

TEST_CASE("warpgroup product: chosen where it is fast and allowed", "[cuda]") {
  if (!has_warpgroups()) return;
  CHECK(chosen_for(make_device_problem<float16>("int4", 64, 16, 64, 0, 64)) == "tokens_64");
  CHECK(chosen_for(make_device_problem<float16>("int4", 64, 16, 64, 0, 65)) == "prefill_wgmma_128");
  // Zero points that are any number need sums of X; see matmul_variant.
  CHECK(chosen_for(make_device_problem<float16>("minmax4", 64, 16, 64, 0, 300)) == "tokens_64");
#if !defined(__CUDACC__)
  the_fake_device().multiprocessors = 2;
  CHECK(chosen_for(make_device_problem<float16>("int4", 64, 257, 64, 0, 65)) == "prefill_wgmma_256");
  CHECK(chosen_for(make_device_problem<float16>("int4", 64, 256, 64, 0, 129)) == "prefill_wgmma_256");
  CHECK(chosen_for(make_device_problem<float16>("int4", 64, 256, 64, 0, 128)) == "prefill_wgmma_128");
  the_fake_device().multiprocessors = 4;
  for (const int capability : {80, 89, 100}) {
    the_fake_device().compute_capability = capability;
    CHECK(chosen_for(make_device_problem<float16>("int4", 64, 16, 64, 0, 128)) == "prefill_128");
  }
  the_fake_device().compute_capability = 90;
  launched_kernels().clear();
  check_device_product(make_device_problem<float16>("int4", 64, 16, 64, 0, 65),
                       {.variant = "prefill_wgmma_128"});
  CHECK(launched_kernels() == std::vector<std::string>(2, "group_matmul_kernel"));
#endif
}
