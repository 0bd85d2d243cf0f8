// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// The kernels, written on the vector operations of simd_*.inl; included once per instruction set, inside its
// namespace and target region.
//
// Lanes are rows of Q, so nothing is ever summed across lanes and every row of every token is computed by the
// same operations in the same order, whatever the number of tokens, parts or lanes: results have the same
// bits.

/// fp32 operands of codes of 2 or 4 bits.
template <int Bits>
struct exact_op {
  using activation = float;
  using operand = vf;
  using sum = vf;
  static constexpr int bits = Bits;
  static constexpr index_t parts = 1;
  exact_table table;
  explicit exact_op(const level_tables& t) : table(load_exact_table(t.levels)) {}
  operand decode(vi word) const { return look_up(table, word); }
  static sum start(std::int32_t) { return set1(0.0F); }
  static operand broadcast(const activation* x) { return set1(*x); }
  static sum dot(sum s, operand w, operand x) { return fma(w, x, s); }
  static vf total(sum s, float) { return s; }
  static void store(operand* p, operand w) { store_f(reinterpret_cast<float*>(p), w); }
  static operand load(const operand* p) { return load_f(reinterpret_cast<const float*>(p)); }
};

/// fp32 operands of 8-bit codes.
template <bool IsAffine>
struct exact_byte_op : exact_op<8> {
  const float* levels;
  vf step;
  vf base;
  explicit exact_byte_op(const level_tables& t)
      : exact_op<8>(t), levels(t.levels), step(set1(t.step)), base(set1(t.base)) {}
  operand decode(vi word) const {
    if constexpr (IsAffine) return fma(to_float(low_bytes(word)), step, base);
    return gather(levels, low_bytes(word));
  }
};

/// What integer operands share.
template <class Activation, int Bits>
struct integer_op {
  using activation = Activation;
  using operand = vi;
  using sum = vi;
  static constexpr int bits = Bits;
  static constexpr index_t parts = 4 / static_cast<index_t>(sizeof(Activation));
  static vi broadcast(const activation* x) {
    std::int32_t word;
    std::memcpy(&word, x, sizeof word);
    return set1_i(word);
  }
  static vf total(sum s, float step) { return mul(to_float(s), set1(step)); }
  static void store(operand* p, operand w) { store_i(p, w); }
  static operand load(const operand* p) { return load_i(p); }
};

template <int Bits>
struct half_op : integer_op<std::int16_t, Bits> {
  half_table table;
  explicit half_op(const level_tables& t) : table(load_half_table(t.halves)) {}
  vi decode(vi word) const {
    if constexpr (Bits == 8) return code_halves(word);
    return look_up_halves(table, word);
  }
  static vi start(std::int32_t) { return set1_i(0); }
  static vi dot(vi s, vi w, vi x) { return dot_halves(s, w, x); }
};

template <int Bits>
struct byte_op : integer_op<std::int8_t, Bits> {
  byte_table table;
  explicit byte_op(const level_tables& t) : table(load_byte_table(t.bytes)) {}
  vi decode(vi word) const {
    if constexpr (Bits == 8) return code_bytes(word);
    return look_up_bytes(table, word);
  }
  static vi start(std::int32_t activation_sum) { return set1_i(-byte_bias * activation_sum); }
  static vi dot(vi s, vi w, vi x) { return dot_bytes(s, w, x); }
};

template <class Op>
constexpr int steps_per_word = 32 / Op::bits / static_cast<int>(Op::parts);

/// Operands decoded from the codes of one block of a panel.
template <class Op>
struct code_source {
  const Op& op;
  const std::uint8_t* codes; // (word, vector, lane) of 32 bits
  vi word[panel_vectors];
  void begin_word() {
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < panel_vectors; ++v) word[v] = load_i(codes + 4 * lanes * v);
    codes += 4 * panel_rows(lanes);
  }
  typename Op::operand next(index_t v) {
    const typename Op::operand w = op.decode(word[v]);
    word[v] = shift_right<Op::bits>(word[v]);
    return w;
  }
};

/// Operands read from a tile that fill_tile made.
template <class Op>
struct tile_source {
  const typename Op::operand* tile; // (step, vector)
  void begin_word() {}
  typename Op::operand next(index_t) { return Op::load(tile++); }
};

/// sums (token, vector) += operands of one block times the activations of Tokens tokens.
template <class Op, int Tokens, class Source>
QLR_DETAIL_INLINE void multiply_block(Source source, const typename Op::activation* x, index_t token_stride,
                                      index_t words, typename Op::sum (&sums)[Tokens][panel_vectors]) {
  for (index_t word = 0; word < words; ++word) {
    source.begin_word();
    QLR_DETAIL_UNROLL
    for (int step = 0; step < steps_per_word<Op>; ++step) {
      typename Op::operand w[panel_vectors];
      QLR_DETAIL_UNROLL
      for (index_t v = 0; v < panel_vectors; ++v) w[v] = source.next(v);
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        const typename Op::operand activation = Op::broadcast(x + t * token_stride);
        QLR_DETAIL_UNROLL
        for (index_t v = 0; v < panel_vectors; ++v) sums[t][v] = Op::dot(sums[t][v], w[v], activation);
      }
      x += Op::parts;
    }
  }
}

QLR_DETAIL_INLINE vf load_numbers(number_array numbers, index_t index) {
  const std::uint8_t* p = numbers.at(index);
  if (numbers.type == number_type::fp16) return load_fp16(p);
  if (numbers.type == number_type::bf16) return load_bf16(p);
  return load_f(reinterpret_cast<const float*>(p));
}

/// What belongs to one block of one panel.
struct block_job {
  const packed_view& w;
  const packed_activations& x;
  index_t panel;
  index_t block;
  float operand_step; ///< level ~= operand * operand_step + offset
  float operand_offset;
  bool has_offset;                                  ///< offset is not zero everywhere
  alignas(64) float scale[panel_rows(lanes)] = {};  ///< of each row
  alignas(64) float offset[panel_rows(lanes)] = {}; ///< operand_offset - zero of each row

  void load_scales() {
    const index_t index = (panel * w.shape.num_groups() + w.shape.group_of(block)) * panel_rows(lanes);
    for (index_t row = 0; row < panel_rows(lanes); row += lanes) {
      store_f(scale + row, load_numbers(w.scales, index + row));
      if (!has_offset) continue;
      const vf zero = w.has_zeros ? load_numbers(w.zeros, index + row) : set1(0.0F);
      store_f(offset + row, sub(set1(operand_offset), zero));
    }
  }

  [[nodiscard]] const std::uint8_t* codes() const {
    const index_t words = w.shape.words_per_block();
    return w.codes + 4 * panel_rows(lanes) * words * (panel * w.shape.num_blocks() + block);
  }
  [[nodiscard]] index_t activation_index(index_t token) const { return block * x.tokens + token; }
};

template <class Activation>
const Activation* activations_of(const packed_activations& x) {
  if constexpr (sizeof(Activation) == 1) {
    return x.bytes;
  } else if constexpr (sizeof(Activation) == 2) {
    return x.halves;
  } else {
    return x.exact;
  }
}

/// sums (token, panel row) += one block times tokens first ... first + Tokens - 1.
template <class Op, int Tokens, class Source>
QLR_DETAIL_INLINE void add_block(const block_job& job, const Source& source, index_t first, float* sums) {
  const packed_activations& x = job.x;
  typename Op::sum block[Tokens][panel_vectors];
  QLR_DETAIL_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    const typename Op::sum start =
        Op::start(x.integer_sums != nullptr ? x.integer_sums[job.activation_index(first + t)] : 0);
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < panel_vectors; ++v) block[t][v] = start;
  }
  const index_t stride = job.w.shape.block_cols;
  multiply_block<Op, Tokens>(
      source, activations_of<typename Op::activation>(x) + job.activation_index(first) * stride, stride,
      job.w.shape.words_per_block(), block);
  QLR_DETAIL_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    const index_t index = job.activation_index(first + t);
    const float step = x.steps != nullptr ? x.steps[index] * job.operand_step : 1.0F;
    float* sum = sums + t * panel_rows(lanes);
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < panel_vectors; ++v) {
      vf total = Op::total(block[t][v], step);
      if (job.has_offset) total = fma(load_f(job.offset + v * lanes), set1(x.sums[index]), total);
      store_f(sum + v * lanes, fma(load_f(job.scale + v * lanes), total, load_f(sum + v * lanes)));
    }
  }
}

template <class Op>
void fill_tile(const Op& op, const block_job& job, typename Op::operand* tile) {
  code_source<Op> source{op, job.codes(), {}};
  for (index_t word = 0; word < job.w.shape.words_per_block(); ++word) {
    source.begin_word();
    for (int step = 0; step < steps_per_word<Op>; ++step) {
      QLR_DETAIL_UNROLL
      for (index_t v = 0; v < panel_vectors; ++v) Op::store(tile++, source.next(v));
    }
  }
}

/// Calls body with the largest number of tokens that fits, until `count` are done.
template <int Most, class Body>
QLR_DETAIL_INLINE void for_token_runs(index_t count, Body&& body) {
  index_t first = 0;
  if constexpr (Most >= 4) {
    for (; first + 4 <= count; first += 4) body(std::integral_constant<int, 4>{}, first);
  }
  for (; first + 2 <= count; first += 2) body(std::integral_constant<int, 2>{}, first);
  if (first < count) body(std::integral_constant<int, 1>{}, first);
}

template <class Op>
void multiply_panel(const packed_view& w, const packed_activations& x, index_t panel, index_t first,
                    index_t count, float* sums) {
  const Op op(*w.tables);
  const level_tables& tables = *w.tables;
  constexpr bool is_exact = sizeof(typename Op::activation) == 4;
  block_job job{w, x, panel, 0, 1.0F, 0.0F, w.has_zeros};
  if (!is_exact) {
    job.operand_step = sizeof(typename Op::activation) == 2 ? tables.half_step : tables.byte_step;
    job.operand_offset = tables.offset;
    job.has_offset = w.has_zeros || tables.offset != 0.0F;
  }
  alignas(64) typename Op::operand tile[most_block_cols / Op::parts * panel_vectors];
  for (; job.block < w.shape.num_blocks(); ++job.block) {
    job.load_scales();
    if (count <= tile_tokens) { // codes are decoded in registers, once
      for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
        const code_source<Op> source{op, job.codes(), {}};
        add_block<Op, tokens()>(job, source, first + run, sums + run * panel_rows(lanes));
      });
      continue;
    }
    fill_tile(op, job, tile);
    for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
      add_block<Op, tokens()>(job, tile_source<Op>{tile}, first + run, sums + run * panel_rows(lanes));
    });
  }
}

// The functions of the table are templates so that they are compiled only where products are called.

/// The kernel of a precision and a width of codes.
template <std::same_as<float> Sum>
void multiply(const packed_view& w, const packed_activations& x, index_t panel, index_t first, index_t count,
              Sum* sums) {
  const int bits = w.shape.code_bits;
  if (x.bytes != nullptr) {
    if (bits == 2) return multiply_panel<byte_op<2>>(w, x, panel, first, count, sums);
    if (bits == 4) return multiply_panel<byte_op<4>>(w, x, panel, first, count, sums);
    return multiply_panel<byte_op<8>>(w, x, panel, first, count, sums);
  }
  if (x.halves != nullptr) {
    if (bits == 2) return multiply_panel<half_op<2>>(w, x, panel, first, count, sums);
    if (bits == 4) return multiply_panel<half_op<4>>(w, x, panel, first, count, sums);
    return multiply_panel<half_op<8>>(w, x, panel, first, count, sums);
  }
  if (bits == 2) return multiply_panel<exact_op<2>>(w, x, panel, first, count, sums);
  if (bits == 4) return multiply_panel<exact_op<4>>(w, x, panel, first, count, sums);
  if (w.tables->is_affine) return multiply_panel<exact_byte_op<true>>(w, x, panel, first, count, sums);
  return multiply_panel<exact_byte_op<false>>(w, x, panel, first, count, sums);
}

/// v (token, rank) = X R^T for the ranks of one vector; four sums of a quarter of the blocks each, added in
/// order.
template <int Tokens>
QLR_DETAIL_INLINE void project_tokens(const factor_view& f, const geometry& shape,
                                      const packed_activations& x, index_t vector, index_t first, float* v,
                                      index_t v_stride) {
  constexpr index_t quarters = 4;
  const index_t blocks = shape.num_blocks();
  const index_t quarter = (blocks + quarters - 1) / quarters;
  vf sums[quarters][Tokens];
  for (auto& row : sums) {
    for (vf& sum : row) sum = set1(0.0F);
  }
  for (index_t step = 0; step < quarter; ++step) {
    for (index_t col = 0; col < shape.block_cols; ++col) {
      QLR_DETAIL_UNROLL
      for (index_t q = 0; q < quarters; ++q) {
        const index_t block = q * quarter + step;
        if (block >= blocks) continue;
        const vf r =
            load_numbers(f.right, (vector * shape.padded_cols() + block * shape.block_cols + col) * lanes);
        const float* p = x.exact + (block * x.tokens + first) * shape.block_cols + col;
        QLR_DETAIL_UNROLL
        for (int t = 0; t < Tokens; ++t) sums[q][t] = fma(r, set1(p[t * shape.block_cols]), sums[q][t]);
      }
    }
  }
  const vf one = set1(1.0F);
  for (int t = 0; t < Tokens; ++t) {
    const vf low = fma(one, sums[0][t], sums[1][t]);
    const vf high = fma(one, sums[2][t], sums[3][t]);
    store_f(v + (first + t) * v_stride + vector * lanes, mul(fma(one, low, high), set1(f.scale)));
  }
}

template <std::same_as<float> Sum>
void project(const factor_view& f, const geometry& shape, const packed_activations& x, index_t vector,
             index_t first, index_t count, Sum* v, index_t v_stride) {
  for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
    project_tokens<tokens()>(f, shape, x, vector, first + run, v, v_stride);
  });
}

/// sums (token, panel row) += v (token, rank) L^T, one rank after the other.
template <int Tokens>
QLR_DETAIL_INLINE void add_tokens(const factor_view& f, index_t panel, const float* v, index_t v_stride,
                                  float* sums) {
  vf total[Tokens][panel_vectors];
  QLR_DETAIL_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    QLR_DETAIL_UNROLL
    for (index_t u = 0; u < panel_vectors; ++u)
      total[t][u] = load_f(sums + t * panel_rows(lanes) + u * lanes);
  }
  for (index_t k = 0; k < f.rank; ++k) {
    QLR_DETAIL_UNROLL
    for (index_t u = 0; u < panel_vectors; ++u) {
      const vf left = load_numbers(f.left, (panel * f.rank + k) * panel_rows(lanes) + u * lanes);
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) total[t][u] = fma(left, set1(v[t * v_stride + k]), total[t][u]);
    }
  }
  QLR_DETAIL_UNROLL
  for (int t = 0; t < Tokens; ++t) {
    QLR_DETAIL_UNROLL
    for (index_t u = 0; u < panel_vectors; ++u)
      store_f(sums + t * panel_rows(lanes) + u * lanes, total[t][u]);
  }
}

template <std::same_as<float> Sum>
void add_low_rank(const factor_view& f, index_t panel, const float* v, index_t v_stride, index_t count,
                  Sum* sums) {
  for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
    add_tokens<tokens()>(f, panel, v + run * v_stride, v_stride, sums + run * panel_rows(lanes));
  });
}

template <std::same_as<float> Sum>
kernel_table make_kernels() {
  return {lanes, &multiply<Sum>, &project<Sum>, &add_low_rank<Sum>};
}
