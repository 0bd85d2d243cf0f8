// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <vector>

namespace qlr::test {

/// Where simulated shared memory starts: not 0, so that an address without its start is found out.
inline constexpr std::uint32_t first_shared_address = 3072;

/// Where a matrix descriptor says that an element of 16 bits lies, from the fields that the instruction set's
/// manual names: K-major, permuted in rows of 128 bytes.
inline std::uint32_t described_address(std::uint64_t descriptor, std::uint32_t row, std::uint32_t col) {
  const auto field = [&](unsigned first, unsigned bits) {
    return static_cast<std::uint32_t>((descriptor >> first) & ((std::uint64_t{1} << bits) - 1));
  };
  if (field(62, 2) != 1) throw std::logic_error("matrix descriptor: not permuted in rows of 128 bytes");
  if (field(49, 3) != 0 || field(14, 2) != 0 || field(30, 2) != 0 || field(46, 3) != 0 || field(52, 10) != 0)
    throw std::logic_error("matrix descriptor: a field that should be 0 is not");
  const std::uint32_t start = field(0, 14) * 16;
  const std::uint32_t eight_rows = field(32, 14) * 16;
  const std::uint32_t plain = start + row / 8 * eight_rows + row % 8 * 128 + 2 * col;
  return plain ^ (((plain >> 7U) & 7U) << 4U);
}

/// sums += A B^T of one warp: A (16,16) in the registers of its lanes, B (tokens,16) in shared memory.
struct warp_product {
  struct lane_registers {
    float* sums;
    const std::uint32_t* a;
  };

  std::uint64_t descriptor = 0;
  std::uint32_t tokens = 0;
  const unsigned char* memory = nullptr; ///< the block's
  float (*to_float)(std::uint16_t) = nullptr;
  lane_registers lanes[32] = {};

  void run() const {
    float left[16][16];
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      for (std::uint32_t i = 0; i < 8; ++i) { // two elements of each of 4 registers
        const std::uint32_t bits = lanes[lane].a[i / 2] >> (16 * (i % 2));
        left[lane / 4 + 8 * (i / 2 % 2)][2 * (lane % 4) + i % 2 + 8 * (i / 4)] =
            to_float(static_cast<std::uint16_t>(bits));
      }
    }
    for (std::uint32_t token = 0; token < tokens; ++token) {
      float right[16];
      for (std::uint32_t col = 0; col < 16; ++col) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, memory + described_address(descriptor, token, col) - first_shared_address, 2);
        right[col] = to_float(bits);
      }
      for (std::uint32_t row = 0; row < 16; ++row) {
        float sum = 0;
        for (std::uint32_t col = 0; col < 16; ++col) sum += left[row][col] * right[col];
        const std::uint32_t lane = row % 8 * 4 + token % 8 / 2;
        lanes[lane].sums[token / 8 * 4 + row / 8 * 2 + token % 2] += sum;
      }
    }
  }
};

/// Products of one warp that are under way.
struct product_queue {
  std::vector<warp_product> open;
  std::deque<std::vector<warp_product>> groups;
  std::size_t issued = 0; ///< since the start of the kernel

  void commit() {
    groups.push_back(open);
    open.clear();
  }
  template <class Run>
  void wait(std::size_t most, Run&& run) {
    while (groups.size() > most) {
      for (const warp_product& product : groups.front()) run(product);
      groups.pop_front();
    }
  }
};

} // namespace qlr::test
