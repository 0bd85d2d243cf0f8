// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The simulated device finds the mistakes it is there for.
#include <cuda/support.hpp>
#include <support/catch.hpp>

#include <array>
#include <cmath>
#include <cstring>

#if !defined(__CUDACC__)

namespace {

using qlr::test::copy_time;
using qlr::test::simulated_launcher;
using qlr::test::thread_order;

/// Lane 0 writes, the others read; `syncs` says whether they wait for it.
struct broadcast_kernel {
  static constexpr std::string_view name = "broadcast_kernel";
  static constexpr int most_threads = 64;
  static constexpr int least_blocks = 1;
  float* out;
  bool syncs;

  template <class Thread>
  void operator()(Thread& thread) const {
    auto* memory = thread.template shared<float>(0);
    if (thread.index() == 0) memory[0] = 7.0F;
    if (syncs) thread.sync();
    out[thread.index()] = memory[0];
  }
};

/// Copies without waiting when `waits` is false.
struct copy_kernel {
  static constexpr std::string_view name = "copy_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  const float* in;
  float* out;
  bool waits;

  template <class Thread>
  void operator()(Thread& thread) const {
    auto* memory = thread.template shared<float>(0);
    thread.copy_async(memory + 4 * thread.index(), in + 4 * thread.index(), thread.index() == 31 ? 8 : 16);
    thread.commit_copies();
    if (waits) thread.template wait_copies<0>();
    for (int i = 0; i < 4; ++i) out[4 * thread.index() + i] = memory[4 * thread.index() + i];
  }
};

/// Block 0 waits for the last block.
struct flag_kernel {
  static constexpr std::string_view name = "flag_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  std::uint32_t* flag;
  bool sets;

  template <class Thread>
  void operator()(Thread& thread) const {
    if (thread.index() != 0) return;
    if (thread.block() == thread.num_blocks() - 1 && sets) thread.publish(flag, 1U);
    while (thread.observe(flag) == 0) thread.pause();
  }
};

/// The smallest of what the threads offer.
struct smallest_kernel {
  static constexpr std::string_view name = "smallest_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  std::uint64_t* word;

  template <class Thread>
  void operator()(Thread& thread) const {
    thread.min_atomic(word, static_cast<std::uint64_t>(100 + thread.block() - thread.index()));
  }
};

/// One tile product from shared memory, both operands by ldmatrix.
struct tile_kernel {
  static constexpr std::string_view name = "tile_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  const std::uint16_t* a; // (16,16)
  const std::uint16_t* b; // (8,16), one column of the tile per row
  float* out;             // (16,8)

  template <class Thread>
  void operator()(Thread& thread) const {
    auto* memory = thread.template shared<std::uint16_t>(0);
    for (int i = thread.index(); i < 256; i += 32) memory[i] = a[i];
    for (int i = thread.index(); i < 128; i += 32) memory[256 + i] = b[i];
    thread.sync();
    const int lane = thread.index();
    std::uint32_t left[4];
    std::uint32_t right[4];
    thread.load_matrices(memory + (lane % 16) * 16 + lane / 16 * 8, left);
    thread.load_matrices(memory + 256 + (lane % 8) * 16 + lane / 8 % 2 * 8, right);
    float sums[4] = {1, 1, 1, 1};
    const std::uint32_t pairs[2] = {right[0], right[1]};
    thread.template multiply_add<qlr::float16>(sums, left, pairs);
    for (int i = 0; i < 4; ++i) out[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = sums[i];
  }
};

} // namespace

TEST_CASE("simulator: a missing barrier shows in some order of threads", "[cuda]") {
  std::array<float, 64> out{};
  qlr::test::in_every_order([&] {
    simulated_launcher::launch(broadcast_kernel{out.data(), true}, {1, 64, 1024}, nullptr);
    for (const float value : out) CHECK(value == 7.0F);
  });
  int num_wrong = 0;
  qlr::test::in_every_order([&] {
    simulated_launcher::launch(broadcast_kernel{out.data(), false}, {1, 64, 1024}, nullptr);
    for (const float value : out) num_wrong += value == 7.0F ? 0 : 1;
  });
  CHECK(num_wrong > 0);
}

TEST_CASE("simulator: a copy that nobody waits for has not happened", "[cuda]") {
  alignas(16) std::array<float, 128> in{};
  in.fill(3.0F);
  std::array<float, 128> out{};
  simulated_launcher::launch(copy_kernel{in.data(), out.data(), true}, {1, 32, 1024}, nullptr);
  CHECK(out[0] == 3.0F);
  CHECK(out[125] == 3.0F);
  CHECK(out[126] == 0.0F); // beyond the bytes that exist
  simulated_launcher::launch(copy_kernel{in.data(), out.data(), false}, {1, 32, 1024}, nullptr);
  CHECK(std::isnan(out[0]));
}

TEST_CASE("simulator: blocks that wait for each other run together, and a deadlock ends", "[cuda]") {
  std::uint32_t flag = 0;
  simulated_launcher::launch(flag_kernel{&flag, true}, {3, 32, 0}, nullptr);
  CHECK(flag == 1U);
  flag = 0;
  CHECK_THROWS(simulated_launcher::launch(flag_kernel{&flag, false}, {3, 32, 0}, nullptr));
}

TEST_CASE("simulator: the smallest value of all threads stays", "[cuda]") {
  qlr::test::in_every_order([] {
    std::uint64_t word = 1000;
    simulated_launcher::launch(smallest_kernel{&word}, {3, 32, 0}, nullptr);
    CHECK(word == 100U - 31U);
    word = 5;
    simulated_launcher::launch(smallest_kernel{&word}, {3, 32, 0}, nullptr);
    CHECK(word == 5U);
  });
}

TEST_CASE("simulator: tile products are those of the instruction set's manual", "[cuda]") {
  std::array<std::uint16_t, 256> a{};
  std::array<std::uint16_t, 128> b{};
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = qlr::to_float16(static_cast<float>(i % 13) - 6.0F).bits;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = qlr::to_float16(static_cast<float>(i % 7) - 3.0F).bits;
  std::array<float, 128> out{};
  simulated_launcher::launch(tile_kernel{a.data(), b.data(), out.data()}, {1, 32, 1024}, nullptr);
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      float sum = 1;
      for (std::size_t k = 0; k < 16; ++k) {
        sum += qlr::to_float(qlr::float16{a[16 * i + k]}) * qlr::to_float(qlr::float16{b[16 * j + k]});
      }
      CHECK(out[8 * i + j] == sum);
    }
  }
}

#endif
