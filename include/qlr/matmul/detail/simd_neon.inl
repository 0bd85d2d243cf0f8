// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Vector operations on the 128 bits of AdvSIMD, for kernels.inl; included inside the namespace of the
// instruction set and inside its target region. QLR_DETAIL_DOTPROD is 1 where SDOT may be used.

constexpr isa kernel_set = QLR_DETAIL_DOTPROD != 0 ? isa::neon_dotprod : isa::neon;
constexpr index_t lanes = 4;
constexpr int tile_tokens = 4; // 16 sums, 4 operands, 4 of a table and the activation fit the 32 registers
constexpr std::int32_t byte_bias = 0;

using vf = float32x4_t;
using vi = uint32x4_t;
using vsum = vi;

inline vsum as_sum(vi x) {
  return x;
}
inline vi as_words(vsum x) {
  return x;
}

inline vf set1(float x) {
  return vdupq_n_f32(x);
}
inline vf load_f(const float* p) {
  return vld1q_f32(p);
}
inline void store_f(float* p, vf x) {
  vst1q_f32(p, x);
}
inline vf fma(vf a, vf b, vf c) {
  return vfmaq_f32(c, a, b);
}
inline vf mul(vf a, vf b) {
  return vmulq_f32(a, b);
}
inline vf sub(vf a, vf b) {
  return vsubq_f32(a, b);
}
inline vf add(vf a, vf b) {
  return vaddq_f32(a, b);
}
inline vf load_int8(const std::uint8_t* p) {
  std::uint32_t word;
  std::memcpy(&word, p, sizeof word);
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
inline vf load_fp16(const std::uint8_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
inline vf load_bf16(const std::uint8_t* p) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))), 16));
}

inline uint8x16_t bytes_of(vi x) {
  return vreinterpretq_u8_u32(x);
}
inline vi words_of(uint8x16_t x) {
  return vreinterpretq_u32_u8(x);
}
inline vi set1_i(std::int32_t x) {
  return vreinterpretq_u32_s32(vdupq_n_s32(x));
}
inline vi load_i(const void* p) {
  return words_of(vld1q_u8(static_cast<const std::uint8_t*>(p)));
}
inline void keep_in_register(vi&) {}
inline void store_i(void* p, vi x) {
  vst1q_u8(static_cast<std::uint8_t*>(p), bytes_of(x));
}
template <int Bits>
vi shift_right(vi x) {
  return vshrq_n_u32(x, Bits);
}
inline vf to_float(vi x) {
  return vcvtq_f32_s32(vreinterpretq_s32_u32(x));
}
inline vi add_i(vi a, vi b) {
  return vaddq_u32(a, b);
}
inline vi magnitude_bits(vf x) {
  return vreinterpretq_u32_f32(vabsq_f32(x));
}
inline vi bits_above(vf x, float base) {
  return vsubq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(vdupq_n_f32(base)));
}
inline vi max_i(vi a, vi b) {
  return vmaxq_u32(a, b);
}
inline vi low_bytes(vi x) {
  return vandq_u32(x, vdupq_n_u32(255));
}
inline vf gather(const float* table, vi x) {
  vf r = vdupq_n_f32(table[vgetq_lane_u32(x, 0)]);
  r = vld1q_lane_f32(table + vgetq_lane_u32(x, 1), r, 1);
  r = vld1q_lane_f32(table + vgetq_lane_u32(x, 2), r, 2);
  return vld1q_lane_f32(table + vgetq_lane_u32(x, 3), r, 3);
}

struct exact_table {
  uint8x16x4_t levels; // 16 levels of 4 bytes
};
inline exact_table load_exact_table(const float* p) {
  const auto quarter = [p](int first) { return vreinterpretq_u8_f32(vld1q_f32(p + first)); };
  return {{{quarter(0), quarter(4), quarter(8), quarter(12)}}};
}
inline vf look_up(const exact_table& table, vi x) {
  // Code c becomes the indices 4 c, 4 c + 1, 4 c + 2, 4 c + 3 of the bytes of its level.
  const vi codes = vandq_u32(x, vdupq_n_u32(15));
  const vi indices = vmlaq_u32(vdupq_n_u32(0x03020100U), codes, vdupq_n_u32(0x04040404U));
  return vreinterpretq_f32_u8(vqtbl4q_u8(table.levels, bytes_of(indices)));
}

// 16-bit operands have an order of their own: the low half of the word of every lane, then the high halves.
// The products of the low halves and those of the high halves are then what one multiplication by a single
// activation widens.
struct half_table {
  uint8x16x2_t levels; // low bytes of the 16 entries, then their high bytes
};
inline half_table load_half_table(const std::int16_t* p) {
  const uint8x16x2_t parts = vld2q_u8(reinterpret_cast<const std::uint8_t*>(p));
  return {parts};
}
inline vi look_up_halves(const half_table& table, vi x) {
  constexpr std::uint8_t order[16] = {0, 0, 4, 4, 8, 8, 12, 12, 2, 2, 6, 6, 10, 10, 14, 14};
  const uint8x16_t codes = vqtbl1q_u8(bytes_of(x), vld1q_u8(order));
  // Code c becomes the indices c and c + 16: the mask takes 4 bits of the code and bit 4 of the odd bytes.
  const uint8x16_t odd = vreinterpretq_u8_u16(vdupq_n_u16(0x1000));
  return words_of(vqtbl2q_u8(table.levels, vbslq_u8(vdupq_n_u8(15), codes, odd)));
}
inline vi code_halves(vi x) {
  constexpr std::uint8_t order[16] = {0, 255, 4, 255, 8, 255, 12, 255, 2, 255, 6, 255, 10, 255, 14, 255};
  const uint8x16_t codes = vqtbl1q_u8(bytes_of(x), vld1q_u8(order)); // an index of 255 gives 0
  return vreinterpretq_u32_u16(vsubq_u16(vreinterpretq_u16_u8(codes), vdupq_n_u16(128)));
}
inline vi dot_halves(vi sum, vi a, vi b) {
  const int16x8_t weights = vreinterpretq_s16_u32(a);
  const int16x4_t activations = vget_low_s16(vreinterpretq_s16_u32(b)); // low, high, low, high
  const int32x4_t low = vmlal_lane_s16(vreinterpretq_s32_u32(sum), vget_low_s16(weights), activations, 0);
  return vreinterpretq_u32_s32(vmlal_high_lane_s16(low, weights, activations, 1));
}

struct byte_table {
  uint8x16_t levels;
};
inline byte_table load_byte_table(const std::int8_t* p) {
  return {vreinterpretq_u8_s8(vld1q_s8(p))};
}
inline vi look_up_bytes(const byte_table& table, vi x) {
  return words_of(vqtbl1q_u8(table.levels, vandq_u8(bytes_of(x), vdupq_n_u8(15))));
}
inline vi code_bytes(vi x) {
  return words_of(veorq_u8(bytes_of(x), vdupq_n_u8(128)));
}
inline vi dot_bytes(vi sum, vi a, vi b) {
  const int8x16_t weights = vreinterpretq_s8_u32(a);
  const int8x16_t activations = vreinterpretq_s8_u32(b);
  int32x4_t total = vreinterpretq_s32_u32(sum);
#if QLR_DETAIL_DOTPROD
  // Not vdotq_s32: the headers of older compilers have it only where the whole file is compiled for it.
  asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(total) : "w"(weights), "w"(activations));
#else
  // Weights are at most 128 and activations at most 127 in magnitude, so 16 bits hold the sum of two
  // products.
  const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(activations));
  const int16x8_t high = vmull_high_s8(weights, activations);
  total = vpadalq_s16(total, vpaddq_s16(low, high));
#endif
  return vreinterpretq_u32_s32(total);
}
