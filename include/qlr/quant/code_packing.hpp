// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/quant/concepts.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>

namespace qlr {

// Codes of b bits, elements 0, 1, 2 ... of one row; every row starts on a byte. Examples, most significant
// bit left:
//
//   lsb_first, b = 4:   byte 0 = [1111 0000]                     digits name the element a bit belongs to
//   lsb_first, b = 2:   byte 0 = [33 22 11 00]
//   lsb_first, b = 3:   byte 0 = [22 111 000]  byte 1 = [5 444 333 2]  byte 2 = [777 666 55]
//   msb_first, b = 4:   byte 0 = [0000 1111]
//   msb_first, b = 3:   byte 0 = [000 111 22]  byte 1 = [2 333 444 5]  byte 2 = [55 666 777]
//   split_half, b = 4:  byte j = [element j + 16, element j] of each block of 32; a last block of t elements
//                       uses (t + 1) / 2 in place of 16
//
// So 8 codes of b bits are always b bytes, and a row takes (count * b + 7) / 8 bytes; unused bits are zero.

/// Bytes of one packed row.
[[nodiscard]] QLR_HOST_DEVICE constexpr index_t packed_bytes(index_t count, int bits) {
  return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

namespace detail {

/// Calls body(first, number) for runs of at most eight codes.
template <class Body>
constexpr void for_each_octet(index_t count, Body&& body) {
  for (index_t first = 0; first < count; first += 8) body(first, std::min<index_t>(8, count - first));
}

template <int Bits, bool MsbFirst>
void pack_bits(const code_t* QLR_RESTRICT codes, index_t count, std::uint8_t* QLR_RESTRICT bytes) {
  for_each_octet(count, [&](index_t first, index_t number) {
    std::uint64_t word = 0;
    for (index_t i = 0; i < number; ++i) {
      const index_t position = MsbFirst ? (7 - i) * Bits : i * Bits;
      word |= static_cast<std::uint64_t>(codes[first + i]) << position;
    }
    const index_t used = packed_bytes(number, Bits);
    for (index_t i = 0; i < used; ++i) {
      const index_t position = MsbFirst ? (Bits - 1 - i) * 8 : i * 8;
      bytes[first / 8 * Bits + i] = static_cast<std::uint8_t>(word >> position);
    }
  });
}

template <int Bits, bool MsbFirst>
void unpack_bits(const std::uint8_t* QLR_RESTRICT bytes, index_t count, code_t* QLR_RESTRICT codes) {
  for_each_octet(count, [&](index_t first, index_t number) {
    const index_t used = packed_bytes(number, Bits);
    std::uint64_t word = 0;
    for (index_t i = 0; i < used; ++i) {
      const index_t position = MsbFirst ? (Bits - 1 - i) * 8 : i * 8;
      word |= static_cast<std::uint64_t>(bytes[first / 8 * Bits + i]) << position;
    }
    for (index_t i = 0; i < number; ++i) {
      const index_t position = MsbFirst ? (7 - i) * Bits : i * Bits;
      codes[first + i] = static_cast<code_t>((word >> position) & ((1U << Bits) - 1U));
    }
  });
}

/// Nibbles of neighbouring elements: the loop that compilers turn into vector code.
template <bool MsbFirst>
void pack_nibbles(const code_t* QLR_RESTRICT codes, index_t count, std::uint8_t* QLR_RESTRICT bytes) {
  for (index_t i = 0; i < count / 2; ++i) {
    const unsigned even = codes[2 * i];
    const unsigned odd = codes[2 * i + 1];
    bytes[i] = static_cast<std::uint8_t>(MsbFirst ? (even << 4U) | odd : even | (odd << 4U));
  }
  if (count % 2 != 0) {
    bytes[count / 2] = static_cast<std::uint8_t>(MsbFirst ? codes[count - 1] << 4U : codes[count - 1]);
  }
}

template <bool MsbFirst>
void unpack_nibbles(const std::uint8_t* QLR_RESTRICT bytes, index_t count, code_t* QLR_RESTRICT codes) {
  for (index_t i = 0; i < count / 2; ++i) {
    const unsigned byte = bytes[i];
    codes[2 * i] = static_cast<code_t>(MsbFirst ? byte >> 4U : byte & 15U);
    codes[2 * i + 1] = static_cast<code_t>(MsbFirst ? byte & 15U : byte >> 4U);
  }
  if (count % 2 != 0) {
    const unsigned byte = bytes[count / 2];
    codes[count - 1] = static_cast<code_t>(MsbFirst ? byte >> 4U : byte & 15U);
  }
}

[[noreturn]] inline void fail_on_bits(int bits) {
  fail(status_code::invalid_argument, "bits is ", bits, ", codes have 1 to 8");
}

template <bool MsbFirst>
struct bit_string_packing {
  static constexpr code_order order = MsbFirst ? code_order::msb_first : code_order::lsb_first;

  static void pack(const code_t* codes, index_t count, int bits, std::uint8_t* bytes) {
    switch (bits) {
    case 1:
      return pack_bits<1, MsbFirst>(codes, count, bytes);
    case 2:
      return pack_bits<2, MsbFirst>(codes, count, bytes);
    case 3:
      return pack_bits<3, MsbFirst>(codes, count, bytes);
    case 4:
      return pack_nibbles<MsbFirst>(codes, count, bytes);
    case 5:
      return pack_bits<5, MsbFirst>(codes, count, bytes);
    case 6:
      return pack_bits<6, MsbFirst>(codes, count, bytes);
    case 7:
      return pack_bits<7, MsbFirst>(codes, count, bytes);
    case 8:
      std::copy_n(codes, count, bytes);
      return;
    default:
      fail_on_bits(bits);
    }
  }

  static void unpack(const std::uint8_t* bytes, index_t count, int bits, code_t* codes) {
    switch (bits) {
    case 1:
      return unpack_bits<1, MsbFirst>(bytes, count, codes);
    case 2:
      return unpack_bits<2, MsbFirst>(bytes, count, codes);
    case 3:
      return unpack_bits<3, MsbFirst>(bytes, count, codes);
    case 4:
      return unpack_nibbles<MsbFirst>(bytes, count, codes);
    case 5:
      return unpack_bits<5, MsbFirst>(bytes, count, codes);
    case 6:
      return unpack_bits<6, MsbFirst>(bytes, count, codes);
    case 7:
      return unpack_bits<7, MsbFirst>(bytes, count, codes);
    case 8:
      std::copy_n(bytes, count, codes);
      return;
    default:
      fail_on_bits(bits);
    }
  }
};

} // namespace detail

/// The library's own order, on disk and in memory.
using lsb_first_packing = detail::bit_string_packing<false>;

/// bitsandbytes' nibbles (first element high) and LQ-LoRA's first bit format.
using msb_first_packing = detail::bit_string_packing<true>;

/// ggml's Q4_0 and IQ4_NL nibbles.
struct split_half_packing {
  static constexpr code_order order = code_order::split_half;
  static constexpr index_t block = 32;

  static void pack(const code_t* codes, index_t count, int bits, std::uint8_t* bytes) {
    check(bits);
    for (index_t first = 0; first < count; first += block) {
      const index_t number = std::min(block, count - first);
      const index_t half = (number + 1) / 2;
      for (index_t j = 0; j < half; ++j) {
        const unsigned high = half + j < number ? codes[first + half + j] : 0U;
        bytes[first / 2 + j] = static_cast<std::uint8_t>(codes[first + j] | (high << 4U));
      }
    }
  }

  static void unpack(const std::uint8_t* bytes, index_t count, int bits, code_t* codes) {
    check(bits);
    for (index_t first = 0; first < count; first += block) {
      const index_t number = std::min(block, count - first);
      const index_t half = (number + 1) / 2;
      for (index_t j = 0; j < half; ++j) codes[first + j] = static_cast<code_t>(bytes[first / 2 + j] & 15U);
      for (index_t j = half; j < number; ++j) {
        codes[first + j] = static_cast<code_t>(bytes[first / 2 + j - half] >> 4U);
      }
    }
  }

private:
  static void check(int bits) {
    require(bits == 4, status_code::invalid_argument, "bits is ", bits, ", split_half packing is for 4");
  }
};

static_assert(packing_policy<lsb_first_packing>);
static_assert(packing_policy<msb_first_packing>);
static_assert(packing_policy<split_half_packing>);

/// Code of element `index` of a packed row of `count`.
///
/// @tparam Index  int where it is known to suffice: kernels divide by it
template <std::signed_integral Index>
[[nodiscard]] QLR_HOST_DEVICE constexpr code_t packed_code(code_order order, const std::uint8_t* bytes,
                                                           Index count, int bits, Index index) {
  if (order == code_order::split_half) {
    constexpr Index block = split_half_packing::block;
    const Index first = index / block * block;
    const Index half = (std::min(block, count - first) + 1) / 2;
    const Index place = index - first;
    const unsigned byte = bytes[first / 2 + (place < half ? place : place - half)];
    return static_cast<code_t>(place < half ? byte & 15U : byte >> 4U);
  }
  const Index begin = index * bits;
  const int shift = static_cast<int>(begin % 8);
  const std::uint8_t* byte = bytes + begin / 8;
  const unsigned mask = (1U << static_cast<unsigned>(bits)) - 1U;
  const unsigned next = shift + bits > 8 ? byte[1] : 0U; // there is no byte behind the last code
  const unsigned pair = order == code_order::lsb_first
                            ? (byte[0] | (next << 8U)) >> shift
                            : ((unsigned{byte[0]} << 8U) | next) >> (16 - shift - bits);
  return static_cast<code_t>(pair & mask);
}

/// Byte `index` of a row of `count` codes once it is packed.
template <std::signed_integral Index>
[[nodiscard]] QLR_HOST_DEVICE constexpr std::uint8_t packed_byte(code_order order, const code_t* codes,
                                                                 Index count, int bits, Index index) {
  if (order == code_order::split_half) {
    constexpr Index block = split_half_packing::block;
    const Index first = index / (block / 2) * block;
    const Index number = std::min(block, count - first);
    const Index low = index - first / 2;
    const Index high = low + (number + 1) / 2;
    return static_cast<std::uint8_t>(codes[first + low] |
                                     (high < number ? unsigned{codes[first + high]} << 4U : 0U));
  }
  if (bits == 8) return codes[index];
  if (bits == 4) { // the common width without a division
    const unsigned first = codes[2 * index];
    const unsigned second = 2 * index + 1 < count ? codes[2 * index + 1] : 0U;
    return static_cast<std::uint8_t>(order == code_order::msb_first ? (first << 4U) | second
                                                                    : first | (second << 4U));
  }
  unsigned byte = 0;
  for (Index i = 8 * index / bits; i < count && i * bits < 8 * index + 8; ++i) {
    const auto begin = static_cast<int>(i * bits - 8 * index); // above -bits, of bit 0 of the code, up to 7
    if (order == code_order::msb_first) {
      const int shift = 8 - begin - bits;
      byte |= shift >= 0 ? unsigned{codes[i]} << shift : unsigned{codes[i]} >> -shift;
    } else {
      byte |= begin >= 0 ? unsigned{codes[i]} << begin : unsigned{codes[i]} >> -begin;
    }
  }
  return static_cast<std::uint8_t>(byte);
}

/// Unpacks a row stored in any order.
inline void unpack_codes(code_order order, const std::uint8_t* bytes, index_t count, int bits,
                         code_t* codes) {
  switch (order) {
  case code_order::lsb_first:
    return lsb_first_packing::unpack(bytes, count, bits, codes);
  case code_order::msb_first:
    return msb_first_packing::unpack(bytes, count, bits, codes);
  case code_order::split_half:
    return split_half_packing::unpack(bytes, count, bits, codes);
  }
}

/// Packs a row in any order.
inline void pack_codes(code_order order, const code_t* codes, index_t count, int bits, std::uint8_t* bytes) {
  switch (order) {
  case code_order::lsb_first:
    return lsb_first_packing::pack(codes, count, bits, bytes);
  case code_order::msb_first:
    return msb_first_packing::pack(codes, count, bits, bytes);
  case code_order::split_half:
    return split_half_packing::pack(codes, count, bits, bytes);
  }
}

} // namespace qlr
