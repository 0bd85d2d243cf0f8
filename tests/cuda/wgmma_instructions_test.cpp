// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <qlr/cuda/detail/packed_layout.hpp>
#include <qlr/cuda/detail/warpgroup_thread.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <support/catch.hpp>

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

namespace {

namespace detail = qlr::cuda::detail;

inline constexpr int tile_offset = 2048;

enum class mistake {
  none,
  copies_unfenced,
  products_unfenced,
  b_overwritten,
  a_overwritten,
  sums_untaken,
  b_disagrees
};

/// OUT (64,128) = A (64,64) B (128,64)^T by one warpgroup, after a mistake.
template <class T, mistake Wrong>
struct product_kernel {
  static constexpr std::string_view name = "product_kernel";
  static constexpr int most_threads = 128;
  static constexpr int least_blocks = 1;

  const std::uint16_t* a; // (64,64)
  const std::uint16_t* b; // (128,64)
  float* out;             // (64,128)

  template <detail::kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    if constexpr (detail::warpgroup_thread<Thread>) run(thread);
  }

  template <class Thread>
  QLR_DEVICE void run(Thread& thread) const {
    auto* tile = thread.template shared<unsigned char>(tile_offset);
    copy_tile(thread, tile);
    thread.template wait_copies<0>();
    if constexpr (Wrong != mistake::copies_unfenced) thread.fence_copies();
    thread.sync();

    float sums[1][64] = {};
    std::uint32_t fragments[4][4];
    QLR_UNROLL
    for (int step = 0; step < 4; ++step) load_fragment(thread, step, fragments[step]);
    if constexpr (Wrong != mistake::products_unfenced) thread.fence_products();
    const int second = Wrong == mistake::b_disagrees && thread.index() >= 96 ? 3 : 1;
    QLR_UNROLL
    for (int step = 0; step < 4; ++step) {
      thread.template multiply_async<T, 128>(
          sums[0], fragments[step],
          detail::swizzled_descriptor(thread.shared_address(tile), step == 1 ? second : step));
    }
    thread.commit_products();
    if constexpr (Wrong == mistake::b_overwritten) copy_tile(thread, tile);
    if constexpr (Wrong == mistake::a_overwritten) fragments[2][0] = 0;
    if constexpr (Wrong != mistake::sums_untaken) thread.take_products(sums);

    const int lane = thread.index() % 32;
    QLR_UNROLL
    for (int i = 0; i < 64; ++i) {
      const int row = thread.index() / 32 * 16 + lane / 4 + 8 * (i / 2 % 2);
      const int col = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
      out[row * 128 + col] = sums[0][i];
    }
    if constexpr (Wrong == mistake::sums_untaken) thread.take_products(sums);
  }

  template <class Thread>
  QLR_DEVICE void copy_tile(Thread& thread, unsigned char* tile) const {
    for (int i = thread.index(); i < 128 * 8; i += 128)
      thread.copy_async(tile + 16 * detail::swizzled_chunk(i / 8, i % 8), b + 64 * (i / 8) + 8 * (i % 8), 16);
    thread.commit_copies();
  }

  template <class Thread>
  QLR_DEVICE void load_fragment(Thread& thread, int step, std::uint32_t (&fragment)[4]) const {
    const int lane = thread.index() % 32;
    QLR_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = thread.index() / 32 * 16 + lane / 4 + 8 * (i % 2);
      const int col = 16 * step + 2 * (lane % 4) + 8 * (i / 2);
      fragment[i] = a[row * 64 + col] | (static_cast<std::uint32_t>(a[row * 64 + col + 1]) << 16U);
    }
  }
};

template <class T>
std::uint16_t bits_of(float value) {
  if constexpr (std::is_same_v<T, qlr::float16>)
    return qlr::to_float16(value).bits;
  else
    return qlr::to_bfloat16(value).bits;
}

/// Elements that no other element equals more often than 1 in 31, with products that a float sums exactly.
template <class T>
std::vector<std::uint16_t> operand(int count, int period) {
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const int value = i * 7 % period - period / 2;
    bits[static_cast<std::size_t>(i)] = bits_of<T>(static_cast<float>(value));
  }
  return bits;
}

template <class T, mistake Wrong>
int count_wrong() {
  const std::vector<std::uint16_t> a = operand<T>(64 * 64, 31);
  const std::vector<std::uint16_t> b = operand<T>(128 * 64, 29);
  const auto a_device = qlr::cuda::to_device(std::span<const std::uint16_t>(a));
  const auto b_device = qlr::cuda::to_device(std::span<const std::uint16_t>(b));
  qlr::cuda::device_buffer<float> out_device(64 * 128);
  qlr::test::test_launcher::launch(
      product_kernel<T, Wrong>{a_device.data(), b_device.data(), out_device.data()},
      {1, 128, tile_offset + 128 * 128}, nullptr);
  std::vector<float> out(64 * 128, -1.0F);
  qlr::cuda::copy_to_host(out_device.data(), std::span<float>(out), nullptr);
  int num_wrong = 0;
  for (std::size_t row = 0; row < 64; ++row) {
    for (std::size_t token = 0; token < 128; ++token) {
      double sum = 0;
      for (std::size_t col = 0; col < 64; ++col)
        sum +=
            static_cast<double>(qlr::to_float(T{a[64 * row + col]})) * qlr::to_float(T{b[64 * token + col]});
      num_wrong += static_cast<double>(out[128 * row + token]) == sum ? 0 : 1;
    }
  }
  return num_wrong;
}

/// False, after saying so, where the program has no code of warpgroups for the device.
bool has_warpgroups() {
  if (!qlr::test::has_device()) return false;
  if (qlr::test::test_launcher::has_warpgroup_code<product_kernel<qlr::float16, mistake::none>>())
    return true;
  std::printf("SKIPPED: not an sm_90a device and program\n");
  return false;
}

} // namespace

TEST_CASE("swizzled tile: a permutation of the row's pieces that spreads a column over all banks", "[cuda]") {
  for (int first = 0; first < 64; first += 8) {
    for (int piece = 0; piece < 8; ++piece) {
      std::set<int> banks;
      for (int row = first; row < first + 8; ++row) {
        const int offset = 16 * detail::swizzled_chunk(row, piece);
        CHECK(offset / 128 == row);
        CHECK(offset % 16 == 0);
        banks.insert(offset % 128 / 16);
      }
      CHECK(banks.size() == 8);
    }
  }
}

TEST_CASE("swizzled tile: the descriptor has the fields of the instruction set's manual", "[cuda]") {
  // 62: mode 1 (128 bytes), 32: 1024 / 16 = 64, 16: 1, 0: address / 16.
  CHECK(detail::swizzled_descriptor(0, 0) == 0x4000004000010000ULL);
  CHECK(detail::swizzled_descriptor(0x400, 0) == 0x4000004000010040ULL);
  CHECK(detail::swizzled_descriptor(0x400, 3) == 0x4000004000010046ULL);
  CHECK(detail::swizzled_descriptor(0x38000, 1) ==
        0x4000004000013802ULL); // the last of 228 KiB: 14 bits suffice
}

TEST_CASE("warpgroup: products of a tile are exact sums for every order", "[cuda]") {
  if (!has_warpgroups()) return;
  qlr::test::in_every_order([] {
    CHECK(count_wrong<qlr::float16, mistake::none>() == 0);
    CHECK(count_wrong<qlr::bfloat16, mistake::none>() == 0);
  });
}

#if !defined(__CUDACC__)

TEST_CASE("simulator: descriptors are decoded as the hardware does", "[cuda]") {
  for (std::uint32_t row = 0; row < 128; ++row) {
    for (std::uint32_t col = 0; col < 64; ++col) {
      const std::uint64_t descriptor = detail::swizzled_descriptor(0x2400, static_cast<int>(col / 16));
      const int chunk = detail::swizzled_chunk(static_cast<int>(row), static_cast<int>(col / 8));
      CHECK(qlr::test::described_address(descriptor, row, col % 16) ==
            0x2400U + 16 * static_cast<std::uint32_t>(chunk) + 2 * (col % 8));
    }
  }
  CHECK_THROWS(qlr::test::described_address(0, 0, 0)); // not permuted
  CHECK_THROWS(qlr::test::described_address(detail::swizzled_descriptor(0, 0) | (1ULL << 49U), 0, 0));
}

template <mistake Wrong>
int count_wrong_in_every_order() {
  int num_wrong = 0;
  qlr::test::in_every_order([&] { num_wrong += count_wrong<qlr::float16, Wrong>(); });
  return num_wrong;
}

TEST_CASE("simulator: mistakes around asynchronous products show", "[cuda]") {
  CHECK_THROWS_AS((count_wrong<qlr::float16, mistake::copies_unfenced>()), std::logic_error);
  CHECK_THROWS_AS((count_wrong<qlr::float16, mistake::products_unfenced>()), std::logic_error);
  CHECK_THROWS_AS((count_wrong<qlr::float16, mistake::b_overwritten>()), std::logic_error);
  CHECK_THROWS_AS((count_wrong<qlr::float16, mistake::b_disagrees>()), std::logic_error);
  CHECK(count_wrong_in_every_order<mistake::a_overwritten>() > 0);
  CHECK(count_wrong_in_every_order<mistake::sums_untaken>() > 0);
}

#endif
