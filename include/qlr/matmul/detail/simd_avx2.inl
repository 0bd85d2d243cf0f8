// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Vector operations on 256 bits, for kernels.inl; included inside the namespace of the instruction set and
// inside its target region.

constexpr isa kernel_set = isa::avx2;
constexpr index_t lanes = 8;
constexpr int tile_tokens = 2; // 8 sums, 4 operands and an activation fit the 16 registers
constexpr std::int32_t byte_bias = 0;

using vf = __m256;
using vi = __m256i;
using vsum = vi;

inline vsum as_sum(vi x) {
  return x;
}
inline vi as_words(vsum x) {
  return x;
}

inline vf set1(float x) {
  return _mm256_set1_ps(x);
}
inline vf load_f(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void store_f(float* p, vf x) {
  _mm256_storeu_ps(p, x);
}
inline vf fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline vf mul(vf a, vf b) {
  return _mm256_mul_ps(a, b);
}
inline vf sub(vf a, vf b) {
  return _mm256_sub_ps(a, b);
}
inline vf add(vf a, vf b) {
  return _mm256_add_ps(a, b);
}
inline vf load_int8(const std::uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline vf load_fp16(const std::uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline vf load_bf16(const std::uint8_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

inline vi set1_i(std::int32_t x) {
  return _mm256_set1_epi32(x);
}
inline vi load_i(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void keep_in_register(vi&) {}
inline void store_i(void* p, vi x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}
template <int Bits>
vi shift_right(vi x) {
  return _mm256_srli_epi32(x, Bits);
}
inline vf to_float(vi x) {
  return _mm256_cvtepi32_ps(x);
}
inline vi add_i(vi a, vi b) {
  return _mm256_add_epi32(a, b);
}
inline vi magnitude_bits(vf x) {
  return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7FFFFFFF));
}
inline vi bits_above(vf x, float base) {
  return _mm256_sub_epi32(_mm256_castps_si256(x), _mm256_castps_si256(_mm256_set1_ps(base)));
}
inline vi max_i(vi a, vi b) {
  return _mm256_max_epi32(a, b);
}
inline vi low_bytes(vi x) {
  return _mm256_and_si256(x, _mm256_set1_epi32(255));
}
inline vf gather(const float* table, vi x) {
  return _mm256_i32gather_ps(table, x, 4);
}

struct exact_table {
  __m256 low;  // levels 0 ... 7
  __m256 high; // levels 8 ... 15
};
inline exact_table load_exact_table(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
inline vf look_up(const exact_table& table, vi x) {
  const __m256 low = _mm256_permutevar8x32_ps(table.low, x); // reads the low 3 bits of each index
  const __m256 high = _mm256_permutevar8x32_ps(table.high, x);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(x, 28))); // bit 3 as the sign
}

struct half_table {
  __m256i low;  // low bytes of the 16 entries, in both 128-bit halves
  __m256i high; // their high bytes
};
inline half_table load_half_table(const std::int16_t* p) {
  alignas(16) std::uint8_t low[16];
  alignas(16) std::uint8_t high[16];
  for (int i = 0; i < 16; ++i) {
    low[i] = static_cast<std::uint8_t>(p[i] & 255);
    high[i] = static_cast<std::uint8_t>((p[i] >> 8) & 255);
  }
  return {_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(low))),
          _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(high)))};
}
inline vi look_up_halves(const half_table& table, vi x) {
  const __m256i codes = _mm256_and_si256(x, _mm256_set1_epi16(15)); // the odd bytes are 0
  const __m256i low = _mm256_and_si256(_mm256_shuffle_epi8(table.low, codes), _mm256_set1_epi16(255));
  return _mm256_or_si256(low, _mm256_slli_epi16(_mm256_shuffle_epi8(table.high, codes), 8));
}
inline vi code_halves(vi x) {
  return _mm256_sub_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_set1_epi16(128));
}
inline vi dot_halves(vi sum, vi a, vi b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

struct byte_table {
  __m256i levels;
};
inline byte_table load_byte_table(const std::int8_t* p) {
  return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline vi look_up_bytes(const byte_table& table, vi x) {
  return _mm256_shuffle_epi8(table.levels, _mm256_and_si256(x, _mm256_set1_epi8(15)));
}
inline vi code_bytes(vi x) {
  return _mm256_xor_si256(x, _mm256_set1_epi8(-128));
}
inline vi dot_bytes(vi sum, vi a, vi b) {
  // |a| is at most 128 and |b| at most 127, so sums of two 16-bit products do not saturate.
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
