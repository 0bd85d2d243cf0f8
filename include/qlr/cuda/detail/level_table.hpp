// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/instructions.hpp>
#include <qlr/cuda/detail/kernel_thread.hpp>
#include <qlr/cuda/detail/packed_layout.hpp>

namespace qlr::cuda::detail {

// Codes become numbers by a table in shared memory with a copy for every lane: entry e of lane l is the word
// 32 e + l, so lane l always reads bank l and a look-up never conflicts. Codes of up to 4 bits are looked up
// in pairs: one look-up gives the two halves of an operand register of multiply_add.
//
//   b    entries           bytes
//   2    16 pairs            2048
//   3    64 pairs            8192
//   4    256 pairs          32768
//   8    256 single levels  32768     two look-ups and one logic instruction per pair
//
// Budget at one token on an H200: 4.1 TB/s over 132 multiprocessors at 1.98 GHz are 15.7 bytes, 31 weights of
// 4 bits, per clock and multiprocessor. That many need 16 look-ups of the 32 lanes that shared memory serves
// per clock, and two integer instructions each (shift; mask and lane offset in one), 32 of the 64 lanes for
// them. A table in registers, searched by byte permutes, would take 2.75 such instructions per weight, 88
// lanes.

[[nodiscard]] QLR_HOST_DEVICE constexpr int table_entries(int bits) {
  return bits == 8 ? 256 : 1 << (2 * bits);
}
[[nodiscard]] QLR_HOST_DEVICE constexpr int table_bytes(int bits) {
  return table_entries(bits) * warp_size * 4;
}

/// Copies the table of packed_view to shared memory; all threads of the block take part, then sync().
///
/// A thread reads an entry, since a second read would wait for memory again, and writes its 32 copies, 16
/// bytes at a time; neighbours start with different ones, so that they do not meet in a bank.
template <int Bits, kernel_thread Thread>
QLR_DEVICE void fill_table(Thread& thread, const std::uint32_t* table, std::uint32_t* shared) {
  for (int entry = thread.index(); entry < table_entries(Bits); entry += thread.num_threads()) {
    const std::uint32_t pair = table[entry];
    QLR_DEVICE_UNROLL
    for (int i = 0; i < 8; ++i)
      reinterpret_cast<quad*>(shared)[8 * entry + (entry + i) % 8] = {{pair, pair, pair, pair}};
  }
}

/// A lane's codes of one block: 16 pairs.
template <int Bits>
struct lane_codes {
  std::uint32_t words[Bits];
};

/// Steps whose codes are loaded at once.
[[nodiscard]] QLR_HOST_DEVICE constexpr int steps_per_load(int bits) {
  return steps_per_block * words_per_load(bits) / bits;
}

/// Reads a lane's codes of steps `step` ... step + steps_per_load(Bits) - 1 of a block in shared or global
/// memory.
template <int Bits>
QLR_DEVICE void load_step_codes(const std::uint32_t* block, int lane, int step, lane_codes<Bits>& out) {
  constexpr int load = words_per_load(Bits);
  const int part = step / steps_per_load(Bits);
  const std::uint32_t* source = block + (part * warp_size + lane) * load;
  if constexpr (load == 4) {
    const quad words = *reinterpret_cast<const quad*>(source);
    QLR_DEVICE_UNROLL
    for (int i = 0; i < 4; ++i) out.words[4 * part + i] = words.words[i];
  } else if constexpr (load == 2) {
    const word_pair words = *reinterpret_cast<const word_pair*>(source);
    out.words[0] = words.words[0];
    out.words[1] = words.words[1];
  } else {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < load; ++i) out.words[i] = source[i];
  }
}

/// Reads a lane's codes of a block in shared or global memory.
template <int Bits>
[[nodiscard]] QLR_DEVICE lane_codes<Bits> load_codes(const std::uint32_t* block, int lane) {
  lane_codes<Bits> out;
  QLR_DEVICE_UNROLL
  for (int step = 0; step < steps_per_block; step += steps_per_load(Bits))
    load_step_codes(block, lane, step, out);
  return out;
}

/// Looks up one lane's codes.
template <int Bits>
class level_lookup {
public:
  /// @param shared  what fill_table filled
  QLR_DEVICE level_lookup(const std::uint32_t* shared, int lane)
      : table_(reinterpret_cast<const unsigned char*>(shared)),
        lane_offset_(4U * static_cast<unsigned>(lane)) {}

  /// The first operand of multiply_add for step `step` (0 to 3): 16 rows, 16 columns.
  QLR_DEVICE void operator()(const lane_codes<Bits>& codes, int step, std::uint32_t (&out)[4]) const {
    QLR_DEVICE_UNROLL
    for (int i = 0; i < 4; ++i) out[i] = pair(codes, 4 * step + i);
  }

private:
  /// The entry whose number starts at bit `bit` of the lane's codes.
  template <int EntryBits>
  [[nodiscard]] QLR_DEVICE std::uint32_t entry(const lane_codes<Bits>& codes, int bit) const {
    constexpr std::uint32_t mask = ((1U << EntryBits) - 1U) << 7U; // times 32 lanes of 4 bytes
    const int word = bit / 32;
    const int shift = bit % 32 - 7;
    std::uint32_t value = 0;
    if (bit % 32 + EntryBits > 32) {
      value = shift_words(codes.words[word], codes.words[(word + 1) % Bits], shift);
    } else {
      value = shift < 0 ? codes.words[word] << -shift : codes.words[word] >> shift;
    }
    return *reinterpret_cast<const std::uint32_t*>(table_ + ((value & mask) | lane_offset_));
  }

  [[nodiscard]] QLR_DEVICE std::uint32_t pair(const lane_codes<Bits>& codes, int index) const {
    if constexpr (Bits == 16) {
      return codes.words[index];
    } else if constexpr (Bits == 8) {
      const std::uint32_t left = entry<8>(codes, 16 * index);
      const std::uint32_t right = entry<8>(codes, 16 * index + 8);
      return (left & 0xFFFFU) | (right & 0xFFFF0000U);
    } else {
      return entry<2 * Bits>(codes, 2 * Bits * index);
    }
  }

  const unsigned char* table_;
  std::uint32_t lane_offset_;
};

} // namespace qlr::cuda::detail
