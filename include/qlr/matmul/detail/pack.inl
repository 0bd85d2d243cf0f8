// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// X into the order of the kernels, and their sums into Y; included by kernels.inl.
//
// Products that meet a sum are explicit fma: a compiler that fused some and not others would change bits.

inline vf widen(const float* p) {
  return load_f(p);
}
inline vf widen(const float16* p) {
  return load_fp16(reinterpret_cast<const std::uint8_t*>(p));
}
inline vf widen(const bfloat16* p) {
  return load_bf16(reinterpret_cast<const std::uint8_t*>(p));
}

/// to (padded): `count` activations as fp32, then zeros.
template <class T>
void widen_row(const T* from, index_t stride, index_t count, float* to, index_t padded) {
  index_t j = 0;
  if (stride == 1) {
    for (; j + lanes <= count; j += lanes) store_f(to + j, widen(from + j));
  }
  for (; j < count; ++j) to[j] = qlr::to_float(from[j * stride]);
  for (; j < padded; ++j) to[j] = 0.0F;
}

/// Largest magnitude among 64 numbers; NaN when one is NaN: their bits are above those of infinity.
inline float largest_magnitude(const float* x) {
  vi largest = set1_i(0);
  for (index_t j = 0; j < most_block_cols; j += lanes)
    largest = max_i(largest, magnitude_bits(load_f(x + j)));
  std::int32_t bits[lanes];
  store_i(bits, largest);
  return std::bit_cast<float>(*std::max_element(bits, bits + lanes));
}

/// Rounds one block of one token, x (64) padded with zeros, to integers of magnitude `most` in the order of
/// the operands of Bits-wide codes.
///
/// NaN and infinities become arbitrary integers; the step is then not finite, and so is every result.
template <int Bits, class Integer>
void round_block(const float* x, index_t block_cols, float most, index_t index, const packed_activations& out,
                 Integer* target) {
  const float step = largest_magnitude(x) / most;
  const bool is_usable = step >= smallest_normal_float && step <= std::numeric_limits<float>::max();
  const float inverse = is_usable ? 1.0F / step : 0.0F;
  constexpr float shift = 12582912.0F; // 1.5 * 2^23: the sum has no fraction bits
  std::int32_t rounded[most_block_cols];
  for (index_t j = 0; j < most_block_cols; j += lanes) {
    store_i(rounded + j, bits_above(fma(load_f(x + j), set1(inverse), set1(shift)), shift));
  }
  constexpr index_t parts = 4 / static_cast<index_t>(sizeof(Integer));
  constexpr index_t per_word = 32 / Bits;
  constexpr index_t steps = per_word / parts;
  std::int32_t sum = 0;
  for (index_t word = 0; word < block_cols; word += per_word) {
    for (index_t s = 0; s < steps; ++s) {
      for (index_t part = 0; part < parts; ++part) {
        const auto value = static_cast<Integer>(rounded[word + part * steps + s]);
        sum += value;
        *target++ = value;
      }
    }
  }
  out.integer_sums[index] = sum;
  out.steps[index] = step < smallest_normal_float ? 0.0F : step; // NaN and infinity stay
  if (out.sums != nullptr) out.sums[index] = static_cast<float>(sum) * out.steps[index];
}

/// Sum of 64 numbers by eight sums, added in order.
inline float block_sum(const float* x) {
  double sums[8] = {};
  for (index_t j = 0; j < most_block_cols; j += 8) {
    for (index_t k = 0; k < 8; ++k) sums[k] += static_cast<double>(x[j + k]);
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  return static_cast<float>(total);
}

template <int Bits>
void pack_block(const float* x, index_t block_cols, index_t index, const packed_activations& out) {
  if (out.bytes != nullptr) {
    round_block<Bits>(x, block_cols, 127.0F, index, out, out.bytes + index * block_cols);
  } else if (out.halves != nullptr) {
    round_block<Bits>(x, block_cols, 8191.0F, index, out, out.halves + index * block_cols);
  } else {
    std::copy_n(x, block_cols, out.exact + index * block_cols);
    if (out.sums != nullptr) out.sums[index] = block_sum(x);
  }
}

template <class T>
void pack(matrix_view<const T> x, const geometry& shape, const float* factors, index_t first, index_t count,
          const packed_activations& out) {
  alignas(64) float numbers[most_block_cols];
  for (index_t t = first; t < first + count; ++t) {
    for (block_cursor block(shape); !block.is_done(); block.advance()) {
      const T* from = x.row(t) + block.first_col() * x.col_stride();
      widen_row(from, x.col_stride(), block.width(), numbers, most_block_cols);
      for (index_t j = 0; factors != nullptr && j < block.width(); ++j)
        numbers[j] *= factors[block.first_col() + j];
      const index_t index = block.index() * out.tokens + t;
      if (shape.code_bits == 2) {
        pack_block<2>(numbers, shape.block_cols, index, out);
      } else if (shape.code_bits == 4) {
        pack_block<4>(numbers, shape.block_cols, index, out);
      } else {
        pack_block<8>(numbers, shape.block_cols, index, out);
      }
    }
  }
}

template <class T>
void store(const float* sums, const float* bias, matrix_view<T> y) {
  const index_t stride = y.col_stride();
  for (index_t t = 0; t < y.rows(); ++t, sums += panel_rows(lanes)) {
    T* out = y.row(t);
    index_t i = 0;
    if constexpr (std::is_same_v<T, float>) {
      for (; stride == 1 && i + lanes <= y.cols(); i += lanes) {
        const vf sum = load_f(sums + i);
        store_f(out + i, bias != nullptr ? add(sum, load_f(bias + i)) : sum);
      }
    }
    for (; i < y.cols(); ++i) {
      convert(bias != nullptr ? sums[i] + bias[i] : sums[i], out[i * stride]);
    }
  }
}
