// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// The low-rank part: v = s X R^T by dot products along the columns, then v L^T rank by rank; included by
// kernels.inl.

/// Calls body with the largest number of tokens that fits, until `count` are done.
template <int Most, class Body>
QLR_DETAIL_INLINE void for_token_runs(index_t count, Body&& body) {
  index_t first = 0;
  for (; first + Most <= count; first += Most) body(std::integral_constant<int, Most>{}, first);
  if constexpr (Most > 1)
    for_token_runs<Most - 1>(count - first, [&](auto tokens, index_t run)
                                                QLR_DETAIL_LAMBDA_INLINE { body(tokens, first + run); });
}

/// Columns of R at a time: R's stay in the first-level cache for all tokens.
constexpr index_t dot_cols = 512;

/// Numbers of one type as fp32; int8 is multiplied by a scale.
template <number_type Type>
QLR_DETAIL_INLINE vf load_number(const std::uint8_t* p, vf scale) {
  if constexpr (Type == number_type::fp16) return load_fp16(p);
  if constexpr (Type == number_type::bf16) return load_bf16(p);
  if constexpr (Type == number_type::int8) return mul(load_int8(p), scale);
  return load_f(reinterpret_cast<const float*>(p));
}

/// out (count) = the numbers at p; asks for what a row of R has next.
template <number_type Type>
QLR_DETAIL_INLINE void decode_as(const std::uint8_t* p, vf scale, index_t count, float* out) {
  for (index_t j = 0; j < count; j += lanes) {
    __builtin_prefetch(p + (j + dot_cols) * number_bytes(Type));
    store_f(out + j, load_number<Type>(p + j * number_bytes(Type), scale));
  }
}

/// out = numbers index ... index + count - 1; count is a multiple of the lanes, and of the run for int8.
inline void decode_numbers(const number_array& numbers, index_t index, index_t count, float* out) {
  const std::uint8_t* p = numbers.at(index);
  const vf one = set1(1.0F);
  switch (numbers.type) {
  case number_type::fp32:
    return decode_as<number_type::fp32>(p, one, count, out);
  case number_type::fp16:
    return decode_as<number_type::fp16>(p, one, count, out);
  case number_type::bf16:
    return decode_as<number_type::bf16>(p, one, count, out);
  case number_type::int8:
    for (index_t j = 0; j < count; j += numbers.run) {
      const vf scale = set1(numbers.scales[(index + j) / numbers.run]);
      decode_as<number_type::int8>(p + j, scale, numbers.run, out + j);
    }
    return;
  }
}

/// One number per lane, of any type but int8.
QLR_DETAIL_INLINE vf load_numbers(const number_array& numbers, index_t index) {
  const std::uint8_t* p = numbers.at(index);
  if (numbers.type == number_type::fp16) return load_fp16(p);
  if (numbers.type == number_type::bf16) return load_bf16(p);
  return load_f(reinterpret_cast<const float*>(p));
}

/// Sums of a dot product are kept for column mod 16, whatever the lanes, so that all sets add in one order.
constexpr index_t dot_lanes = 16;
constexpr index_t dot_vectors = dot_lanes / lanes;
/// Ranks and tokens whose sums stay in registers.
constexpr index_t dot_tile = lanes == 16 ? 4 : 2;
/// sums (tile, tile, 16) += r (tile, dot_cols) x^T for Ranks ranks and Tokens tokens.
template <int Ranks, int Tokens>
QLR_DETAIL_INLINE void dot_rows(const float* r, const float* const* x, index_t cols, float* sums,
                                index_t rank_stride) {
  vf total[Ranks][Tokens][dot_vectors];
  const auto for_each = [&](auto&& body) QLR_DETAIL_LAMBDA_INLINE {
    QLR_DETAIL_UNROLL
    for (int k = 0; k < Ranks; ++k) {
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        QLR_DETAIL_UNROLL
        for (index_t v = 0; v < dot_vectors; ++v)
          body(total[k][t][v], sums + k * rank_stride + t * dot_lanes + v * lanes);
      }
    }
  };
  for_each([](vf& sum, float* p) QLR_DETAIL_LAMBDA_INLINE { sum = load_f(p); });
  for (index_t j = 0; j < cols; j += dot_lanes) {
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < dot_vectors; ++v) {
      const index_t col = j + v * lanes;
      vf activation[Tokens];
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) activation[t] = load_f(x[t] + col);
      QLR_DETAIL_UNROLL
      for (int k = 0; k < Ranks; ++k) {
        const vf number = load_f(r + k * dot_cols + col);
        QLR_DETAIL_UNROLL
        for (int t = 0; t < Tokens; ++t) total[k][t][v] = fma(number, activation[t], total[k][t][v]);
      }
    }
  }
  for_each([](const vf& sum, float* p) QLR_DETAIL_LAMBDA_INLINE { store_f(p, sum); });
}

/// Ranks that one token is multiplied with at once: as many chains of sums as fill the pipeline.
constexpr index_t token_ranks = lanes == 16 ? 8 : 2;

/// sums (rank, 16) += rows of R times x, for token_ranks rows of which the first `ranks` exist.
template <number_type Type>
void dot_token(const number_array& right, index_t index, index_t row_stride, index_t ranks, const float* x,
               index_t cols, float* sums) {
  vf total[token_ranks][dot_vectors];
  const std::uint8_t* row[token_ranks];
  index_t scale_index[token_ranks];
  QLR_DETAIL_UNROLL
  for (index_t k = 0; k < token_ranks; ++k) {
    const index_t begin = index + std::min(k, ranks - 1) * row_stride;
    row[k] = right.at(begin);
    scale_index[k] = begin / right_unit;
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < dot_vectors; ++v) total[k][v] = load_f(sums + k * dot_lanes + v * lanes);
  }
  vf scale[token_ranks] = {};
  for (index_t j = 0; j < cols; j += dot_lanes) {
    if (Type == number_type::int8 && j % right_unit == 0) {
      for (index_t k = 0; k < token_ranks; ++k)
        scale[k] = set1(right.scales[scale_index[k] + j / right_unit]);
    }
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < dot_vectors; ++v) {
      const vf activation = load_f(x + j + v * lanes);
      QLR_DETAIL_UNROLL
      for (index_t k = 0; k < token_ranks; ++k) {
        const std::uint8_t* p = row[k] + (j + v * lanes) * number_bytes(Type);
        __builtin_prefetch(p + 768);
        total[k][v] = fma(load_number<Type>(p, scale[k]), activation, total[k][v]);
      }
    }
  }
  QLR_DETAIL_UNROLL
  for (index_t k = 0; k < token_ranks; ++k) {
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < dot_vectors; ++v) store_f(sums + k * dot_lanes + v * lanes, total[k][v]);
  }
}

inline void dot_token(const number_array& right, index_t index, index_t row_stride, index_t ranks,
                      const float* x, index_t cols, float* sums) {
  switch (right.type) {
  case number_type::fp32:
    return dot_token<number_type::fp32>(right, index, row_stride, ranks, x, cols, sums);
  case number_type::fp16:
    return dot_token<number_type::fp16>(right, index, row_stride, ranks, x, cols, sums);
  case number_type::bf16:
    return dot_token<number_type::bf16>(right, index, row_stride, ranks, x, cols, sums);
  case number_type::int8:
    return dot_token<number_type::int8>(right, index, row_stride, ranks, x, cols, sums);
  }
}

/// Sum of 16 numbers, by halves.
inline float add_lanes(const float* sums) {
  float s[dot_lanes];
  std::copy_n(sums, dot_lanes, s);
  for (index_t half = dot_lanes / 2; half > 0; half /= 2) {
    for (index_t i = 0; i < half; ++i) s[i] += s[i + half];
  }
  return s[0];
}

/// Pointers to `count` activations of every token: X itself where it can be read as it is, else a copy.
template <class T>
class column_slice {
public:
  void read(matrix_view<const T> x, index_t first, index_t tokens, index_t col, index_t count) {
    const index_t padded = (count + dot_lanes - 1) / dot_lanes * dot_lanes;
    for (index_t t = 0; t < tokens; ++t) {
      const T* from = x.row(first + t) + col * x.col_stride();
      if constexpr (std::is_same_v<T, float>) {
        if (x.col_stride() == 1 && padded == count) {
          rows_[t] = from;
          continue;
        }
      }
      widen_row(from, x.col_stride(), count, copies_ + t * dot_cols, padded);
      rows_[t] = copies_ + t * dot_cols;
    }
  }
  [[nodiscard]] const float* const* rows(index_t token) const { return rows_ + token; }

private:
  const float* rows_[dot_tile];
  alignas(64) float copies_[dot_tile * dot_cols];
};

/// sums (rank, 16) = R x of one token: numbers are used as soon as they are decoded.
template <class T>
void project_token(const factor_view& f, matrix_view<const T> x, index_t first_rank, index_t ranks,
                   index_t token, float* sums) {
  column_slice<T> slice;
  for (index_t col = 0; col < f.cols; col += dot_cols) {
    const index_t cols = std::min(dot_cols, f.cols - col);
    slice.read(x, token, 1, col, cols);
    for (index_t k = 0; k < ranks; k += token_ranks) {
      const index_t padded_cols = f.padded_cols();
      dot_token(f.right, (first_rank + k) * padded_cols + col, padded_cols, ranks - k, *slice.rows(0), cols,
                sums + k * dot_lanes);
    }
  }
}

/// sums (rank, token, 16) = R x of several tokens: numbers are decoded once for all.
template <class T>
void project_tokens_of(const factor_view& f, matrix_view<const T> x, index_t first_rank, index_t ranks,
                       index_t first, index_t count, float* sums) {
  alignas(64) float right[project_ranks * dot_cols] = {}; // (rank, column)
  column_slice<T> slice;
  const index_t rank_stride = count * dot_lanes;
  for (index_t col = 0; col < f.cols; col += dot_cols) {
    const index_t cols = std::min(dot_cols, f.cols - col);
    const index_t padded = std::min(dot_cols, f.padded_cols() - col);
    for (index_t k = 0; k < ranks; ++k) {
      decode_numbers(f.right, (first_rank + k) * f.padded_cols() + col, padded, right + k * dot_cols);
    }
    for (index_t t = 0; t < count; t += dot_tile) {
      const index_t tokens = std::min(dot_tile, count - t);
      slice.read(x, first + t, tokens, col, cols);
      for (index_t k = 0; k < ranks; k += dot_tile) {
        float* sum = sums + k * rank_stride + t * dot_lanes;
        const float* r = right + k * dot_cols;
        if (tokens == dot_tile) {
          dot_rows<dot_tile, dot_tile>(r, slice.rows(0), cols, sum, rank_stride);
        } else {
          for (index_t i = 0; i < tokens; ++i) {
            dot_rows<dot_tile, 1>(r, slice.rows(i), cols, sum + i * dot_lanes, rank_stride);
          }
        }
      }
    }
  }
}

template <class T>
void project(const factor_view& f, matrix_view<const T> x, index_t first_rank, index_t first, index_t count,
             float* v, index_t v_stride) {
  alignas(64) float sums[project_ranks * project_tokens * dot_lanes]; // (rank, token, lane)
  const index_t ranks = std::min(project_ranks, f.rank - first_rank);
  std::fill_n(sums, project_ranks * count * dot_lanes, 0.0F);
  if (count == 1) {
    project_token(f, x, first_rank, ranks, first, sums);
  } else {
    project_tokens_of(f, x, first_rank, ranks, first, count, sums);
  }
  for (index_t t = 0; t < count; ++t) {
    for (index_t k = 0; k < ranks; ++k) {
      v[(first + t) * v_stride + first_rank + k] = f.scale * add_lanes(sums + (k * count + t) * dot_lanes);
    }
  }
}

/// sums (token, panel row) += v (token, rank) times left (rank, panel row), one rank after the other.
template <int Tokens>
QLR_DETAIL_INLINE void add_ranks(const float* left, index_t ranks, const float* v, index_t v_stride,
                                 float* sums) {
  vf total[Tokens][panel_vectors];
  const auto for_each = [&](auto&& body) QLR_DETAIL_LAMBDA_INLINE {
    QLR_DETAIL_UNROLL
    for (int t = 0; t < Tokens; ++t) {
      QLR_DETAIL_UNROLL
      for (index_t u = 0; u < panel_vectors; ++u) body(total[t][u], sums + t * panel_rows(lanes) + u * lanes);
    }
  };
  for_each([](vf& sum, float* p) QLR_DETAIL_LAMBDA_INLINE { sum = load_f(p); });
  for (index_t k = 0; k < ranks; ++k, left += panel_rows(lanes)) {
    QLR_DETAIL_UNROLL
    for (index_t u = 0; u < panel_vectors; ++u) {
      const vf numbers = load_f(left + u * lanes);
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) total[t][u] = fma(numbers, set1(v[t * v_stride + k]), total[t][u]);
    }
  }
  for_each([](const vf& sum, float* p) QLR_DETAIL_LAMBDA_INLINE { store_f(p, sum); });
}

template <class T> // compiled where products of T are called
void add_low_rank(const factor_view& f, index_t panel, const float* v, index_t v_stride, index_t count,
                  float* sums) {
  constexpr index_t most_ranks = 64;
  alignas(64) float left[most_ranks * panel_rows(lanes)]; // (rank, panel row)
  for (index_t first = 0; first < f.rank; first += most_ranks) {
    const index_t ranks = std::min(most_ranks, f.rank - first);
    decode_numbers(f.left, (panel * f.rank + first) * panel_rows(lanes), ranks * panel_rows(lanes), left);
    for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
      add_ranks<tokens()>(left, ranks, v + run * v_stride + first, v_stride, sums + run * panel_rows(lanes));
    });
  }
}
