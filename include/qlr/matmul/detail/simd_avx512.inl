// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Vector operations on 512 bits, for kernels.inl; included inside the namespace of the instruction set and
// inside its target region. QLR_DETAIL_VNNI is 1 where VNNI and VBMI may be used.

constexpr isa kernel_set = QLR_DETAIL_VNNI != 0 ? isa::avx512_vnni : isa::avx512;
constexpr index_t lanes = 16;
constexpr int tile_tokens = 4; // 16 sums, 4 operands and the activations fit the 32 registers
#if QLR_DETAIL_VNNI
constexpr std::int32_t byte_bias = 128; // the dot product takes its first operand without sign
#else
constexpr std::int32_t byte_bias = 0;
#endif

using vf = __m512;
using vi = __m512i;
/// Sums of dot products. GCC copies every sum in and out of the instruction when its type is another.
using vsum [[gnu::vector_size(64)]] = std::int32_t;

inline vsum as_sum(vi x) {
  return reinterpret_cast<vsum>(x);
}
inline vi as_words(vsum x) {
  return reinterpret_cast<vi>(x);
}

inline vf set1(float x) {
  return _mm512_set1_ps(x);
}
inline vf load_f(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void store_f(float* p, vf x) {
  _mm512_storeu_ps(p, x);
}
inline vf fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline vf mul(vf a, vf b) {
  return _mm512_mul_ps(a, b);
}
inline vf sub(vf a, vf b) {
  return _mm512_sub_ps(a, b);
}
inline vf add(vf a, vf b) {
  return _mm512_add_ps(a, b);
}
inline vf load_int8(const std::uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline vf load_fp16(const std::uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline vf load_bf16(const std::uint8_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline vi set1_i(std::int32_t x) {
  return _mm512_set1_epi32(x);
}
inline vi load_i(const void* p) {
  return _mm512_loadu_si512(p);
}
/// Else GCC loads once more for the next use, and a load across cache lines costs more than all else.
inline void keep_in_register(vi& x) {
#if defined(__GNUC__)
  asm("" : "+v"(x));
#endif
}
inline void store_i(void* p, vi x) {
  _mm512_storeu_si512(p, x);
}
template <int Bits>
vi shift_right(vi x) {
  return _mm512_srli_epi32(x, Bits);
}
inline vf to_float(vi x) {
  return _mm512_cvtepi32_ps(x);
}
inline vi add_i(vi a, vi b) {
  return _mm512_add_epi32(a, b);
}
inline vi magnitude_bits(vf x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF));
}
inline vi bits_above(vf x, float base) {
  return _mm512_sub_epi32(_mm512_castps_si512(x), _mm512_castps_si512(_mm512_set1_ps(base)));
}
inline vi max_i(vi a, vi b) {
  return _mm512_max_epi32(a, b);
}
inline vi low_bytes(vi x) {
  return _mm512_and_si512(x, _mm512_set1_epi32(255));
}
inline vf gather(const float* table, vi x) {
  return _mm512_i32gather_ps(x, table, 4);
}

struct exact_table {
  __m512 levels;
};
inline exact_table load_exact_table(const float* p) {
  return {_mm512_loadu_ps(p)};
}
inline vf look_up(const exact_table& table, vi x) {
  return _mm512_permutexvar_ps(x, table.levels); // reads the low 4 bits of each index
}

struct half_table {
  __m512i levels;
};
inline half_table load_half_table(const std::int16_t* p) {
  return {_mm512_loadu_si512(p)};
}
inline vi look_up_halves(const half_table& table, vi x) {
  return _mm512_permutexvar_epi16(x,
                                  table.levels); // reads the low 5 bits; the table has its 16 entries twice
}
inline vi code_halves(vi x) {
  return _mm512_sub_epi16(_mm512_and_si512(x, _mm512_set1_epi16(255)), _mm512_set1_epi16(128));
}
inline vsum dot_halves(vsum sum, vi a, vi b) {
#if QLR_DETAIL_VNNI
  return as_sum(_mm512_dpwssd_epi32(as_words(sum), a, b));
#else
  return sum + as_sum(_mm512_madd_epi16(a, b));
#endif
}

struct byte_table {
  __m512i levels;
};
inline byte_table load_byte_table(const std::int8_t* p) {
  const __m512i levels = _mm512_loadu_si512(p);
#if QLR_DETAIL_VNNI
  return {_mm512_xor_si512(levels, _mm512_set1_epi8(-128))};
#else
  return {levels};
#endif
}
inline vi look_up_bytes(const byte_table& table, vi x) {
#if QLR_DETAIL_VNNI
  return _mm512_permutexvar_epi8(
      x, table.levels); // reads the low 6 bits; the table has its 16 entries four times
#else
  return _mm512_shuffle_epi8(table.levels, _mm512_and_si512(x, _mm512_set1_epi8(15)));
#endif
}
inline vi code_bytes(vi x) {
#if QLR_DETAIL_VNNI
  return x;
#else
  return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
#endif
}
inline vsum dot_bytes(vsum sum, vi a, vi b) {
#if QLR_DETAIL_VNNI
  return as_sum(_mm512_dpbusd_epi32(as_words(sum), a, b));
#else
  // 16-bit products: bytes of -128 are as welcome as any, and no sum of two saturates.
  const __m512i low = _mm512_madd_epi16(_mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8),
                                        _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8));
  const __m512i high = _mm512_madd_epi16(_mm512_srai_epi16(a, 8), _mm512_srai_epi16(b, 8));
  return sum + as_sum(_mm512_add_epi32(low, high));
#endif
}
