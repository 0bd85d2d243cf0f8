// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

/// CRC-64 of bytes that come in pieces (the reflected ECMA-182 polynomial, as in xz).
class crc64 {
public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
      state_ =
          table[static_cast<std::uint8_t>(state_) ^ std::to_integer<std::uint8_t>(byte)] ^ (state_ >> 8U);
    }
  }
  [[nodiscard]] std::uint64_t value() const { return ~state_; }

private:
  static constexpr std::array<std::uint64_t, 256> table = [] {
    std::array<std::uint64_t, 256> result{};
    for (std::uint64_t i = 0; i < result.size(); ++i) {
      std::uint64_t entry = i;
      for (int bit = 0; bit < 8; ++bit) {
        entry = (entry >> 1U) ^ ((entry & 1U) != 0 ? 0xC96C5795D7870F42U : 0U);
      }
      result[i] = entry;
    }
    return result;
  }();

  std::uint64_t state_ = ~std::uint64_t{0};
};
