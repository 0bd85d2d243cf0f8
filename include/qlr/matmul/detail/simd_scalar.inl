// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Vector operations without intrinsics, for kernels.inl; included inside the namespace of the instruction
// set.

constexpr isa kernel_set = isa::scalar;
constexpr index_t lanes = 4;
constexpr int tile_tokens = 2;
constexpr std::int32_t byte_bias = 0; // what dot_bytes adds to the first operand

struct vf {
  float v[lanes];
};
struct vi {
  std::uint32_t v[lanes];
};
using vsum = vi;

inline vsum as_sum(vi x) {
  return x;
}
inline vi as_words(vsum x) {
  return x;
}

template <class F>
vf map_f(F&& f) {
  vf r;
  for (index_t i = 0; i < lanes; ++i) r.v[i] = f(i);
  return r;
}
template <class F>
vi map_i(F&& f) {
  vi r;
  for (index_t i = 0; i < lanes; ++i) r.v[i] = static_cast<std::uint32_t>(f(i));
  return r;
}

inline vf set1(float x) {
  return map_f([&](index_t) { return x; });
}
inline vf load_f(const float* p) {
  return map_f([&](index_t i) { return p[i]; });
}
inline void store_f(float* p, vf x) {
  for (index_t i = 0; i < lanes; ++i) p[i] = x.v[i];
}
inline vf fma(vf a, vf b, vf c) {
  return map_f([&](index_t i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline vf mul(vf a, vf b) {
  return map_f([&](index_t i) { return a.v[i] * b.v[i]; });
}
inline vf sub(vf a, vf b) {
  return map_f([&](index_t i) { return a.v[i] - b.v[i]; });
}
inline vf add(vf a, vf b) {
  return map_f([&](index_t i) { return a.v[i] + b.v[i]; });
}
inline vf load_int8(const std::uint8_t* p) {
  return map_f([&](index_t i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); });
}
inline vf load_fp16(const std::uint8_t* p) {
  return map_f([&](index_t i) {
    float16 half;
    std::memcpy(&half, p + 2 * i, sizeof half);
    return to_float(half);
  });
}
inline vf load_bf16(const std::uint8_t* p) {
  return map_f([&](index_t i) {
    bfloat16 half;
    std::memcpy(&half, p + 2 * i, sizeof half);
    return to_float(half);
  });
}

inline vi set1_i(std::int32_t x) {
  return map_i([&](index_t) { return x; });
}
inline vi load_i(const void* p) {
  vi r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline void keep_in_register(vi&) {}
inline void store_i(void* p, vi x) {
  std::memcpy(p, x.v, sizeof x.v);
}
template <int Bits>
vi shift_right(vi x) {
  return map_i([&](index_t i) { return x.v[i] >> Bits; });
}
inline vf to_float(vi x) {
  return map_f([&](index_t i) { return static_cast<float>(static_cast<std::int32_t>(x.v[i])); });
}
inline vi add_i(vi a, vi b) {
  return map_i([&](index_t i) { return a.v[i] + b.v[i]; });
}
inline vi magnitude_bits(vf x) {
  return map_i([&](index_t i) { return std::bit_cast<std::uint32_t>(x.v[i]) & 0x7FFFFFFFU; });
}
inline vi bits_above(vf x, float base) {
  return map_i(
      [&](index_t i) { return std::bit_cast<std::uint32_t>(x.v[i]) - std::bit_cast<std::uint32_t>(base); });
}
inline vi max_i(vi a, vi b) { // of numbers without sign bit
  return map_i([&](index_t i) { return std::max(a.v[i], b.v[i]); });
}
inline vi low_bytes(vi x) {
  return map_i([&](index_t i) { return x.v[i] & 0xFFU; });
}
inline vf gather(const float* table, vi x) {
  return map_f([&](index_t i) { return table[x.v[i]]; });
}

struct exact_table {
  const float* levels;
};
inline exact_table load_exact_table(const float* p) {
  return {p};
}
inline vf look_up(const exact_table& table, vi x) {
  return map_f([&](index_t i) { return table.levels[x.v[i] & 15U]; });
}

struct half_table {
  const std::int16_t* levels;
};
inline half_table load_half_table(const std::int16_t* p) {
  return {p};
}
inline std::int32_t half_of(std::uint32_t word, int part) {
  return static_cast<std::int16_t>(static_cast<std::uint16_t>(word >> (16 * part)));
}
inline std::uint32_t join_halves(std::int32_t low, std::int32_t high) {
  return (static_cast<std::uint32_t>(low) & 0xFFFFU) | (static_cast<std::uint32_t>(high) << 16U);
}
inline vi look_up_halves(const half_table& table, vi x) {
  return map_i([&](index_t i) {
    return join_halves(table.levels[x.v[i] & 15U], table.levels[(x.v[i] >> 16U) & 15U]);
  });
}
inline vi code_halves(vi x) {
  return map_i([&](index_t i) {
    return join_halves(static_cast<std::int32_t>(x.v[i] & 255U) - 128,
                       static_cast<std::int32_t>((x.v[i] >> 16U) & 255U) - 128);
  });
}
inline vi dot_halves(vi sum, vi a, vi b) {
  return map_i([&](index_t i) {
    const std::int32_t low = half_of(a.v[i], 0) * half_of(b.v[i], 0);
    const std::int32_t high = half_of(a.v[i], 1) * half_of(b.v[i], 1);
    return sum.v[i] + static_cast<std::uint32_t>(low) + static_cast<std::uint32_t>(high);
  });
}

struct byte_table {
  const std::int8_t* levels;
};
inline byte_table load_byte_table(const std::int8_t* p) {
  return {p};
}
inline vi look_up_bytes(const byte_table& table, vi x) {
  return map_i([&](index_t i) {
    std::uint32_t word = 0;
    for (unsigned part = 0; part < 32; part += 8) {
      word |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(table.levels[(x.v[i] >> part) & 15U]))
              << part;
    }
    return word;
  });
}
inline vi code_bytes(vi x) {
  return map_i([&](index_t i) { return x.v[i] ^ 0x80808080U; });
}
inline vi dot_bytes(vi sum, vi a, vi b) {
  return map_i([&](index_t i) {
    std::int32_t total = 0;
    for (unsigned part = 0; part < 32; part += 8) {
      total += static_cast<std::int8_t>(static_cast<std::uint8_t>(a.v[i] >> part)) *
               static_cast<std::int8_t>(static_cast<std::uint8_t>(b.v[i] >> part));
    }
    return sum.v[i] + static_cast<std::uint32_t>(total);
  });
}
