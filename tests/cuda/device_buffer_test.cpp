// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <qlr/cuda/device.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <support/catch.hpp>

#include <numeric>
#include <vector>

namespace {

/// out[i] = sum of the block's in[...], through shared memory and shuffles: what a reduction needs.
struct sum_blocks_kernel {
  static constexpr std::string_view name = "sum_blocks_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 1;

  const float* in;
  float* out;

  template <qlr::cuda::detail::kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    float sum = in[thread.block() * thread.num_threads() + thread.index()];
    for (int mask = 16; mask > 0; mask /= 2) sum += thread.shuffle_xor(sum, mask);
    auto* partial = thread.template shared<float>(0);
    if (thread.index() % 32 == 0) partial[thread.index() / 32] = sum;
    thread.sync();
    if (thread.index() != 0) return;
    float total = 0;
    for (int i = 0; i < thread.num_threads() / 32; ++i) total += partial[i];
    out[thread.block()] = total;
  }
};

} // namespace

TEST_CASE("device_buffer: a matrix comes back from the device as it was", "[cuda]") {
  if (!qlr::test::has_device()) return;
  qlr::matrix<float> x(3, 5);
  std::iota(x.data(), x.data() + x.size(), 1.0F);
  const auto on_device = qlr::cuda::to_device(x.view());
  const auto transposed = qlr::cuda::to_device(x.view().transposed());
  const qlr::matrix<float> back = qlr::cuda::to_host(on_device);
  const qlr::matrix<float> back_transposed = qlr::cuda::to_host(transposed);
  REQUIRE(back_transposed.rows() == 5);
  for (qlr::index_t i = 0; i < 3; ++i) {
    for (qlr::index_t j = 0; j < 5; ++j) {
      CHECK(back(i, j) == x(i, j));
      CHECK(back_transposed(j, i) == x(i, j));
    }
  }
}

TEST_CASE("device_buffer: impossible sizes are refused", "[cuda]") {
  if (!qlr::test::has_device()) return;
  CHECK_THROWS_AS(qlr::cuda::device_buffer<float>(-1), qlr::error);
  CHECK_THROWS_AS(qlr::cuda::device_buffer<double>(qlr::index_t{1} << 61), qlr::error);
  CHECK_THROWS_AS(qlr::cuda::device_matrix<float>(qlr::index_t{1} << 40, qlr::index_t{1} << 40), qlr::error);
  CHECK(qlr::cuda::device_matrix<float>(0, 7).size() == 0);
}

TEST_CASE("launch: blocks share memory and shuffle", "[cuda]") {
  if (!qlr::test::has_device()) return;
  qlr::test::in_every_order([] {
    std::vector<float> values(3 * 64);
    std::iota(values.begin(), values.end(), 0.0F);
    const auto in = qlr::cuda::to_device(std::span<const float>(values));
    qlr::cuda::device_buffer<float> out(3);
    qlr::test::test_launcher::launch(sum_blocks_kernel{in.data(), out.data()}, {3, 64, 64}, nullptr);
    std::vector<float> sums(3, -1.0F);
    qlr::cuda::copy_to_host(out.data(), std::span<float>(sums), nullptr);
    for (int i = 0; i < 3; ++i)
      CHECK(sums[static_cast<std::size_t>(i)] == static_cast<float>(64 * 64 * i + 63 * 32));
  });
}
