// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// The product with Q, written on the vector operations of simd_*.inl; included once per instruction set,
// inside its namespace and target region, after them.
//
// Lanes are rows of Q, so nothing is ever summed across lanes and every row of every token is computed by the
// same operations in the same order, whatever the number of tokens, parts or lanes: results have the same
// bits.

#include <qlr/matmul/detail/pack.inl>

#include <qlr/matmul/detail/factors.inl>

/// Arithmetic of fp32 operands.
struct exact_math {
  using activation = float;
  using operand = vf;
  using sum = vf;
  static constexpr index_t parts = 1;
  static constexpr int chains = 1; // of sums of one token: fp32 sums have one order
  static sum join(sum a, sum) { return a; }
  static const activation* activations(const packed_activations& x) { return x.exact; }
  static sum start(std::int32_t) { return set1(0.0F); }
  static operand broadcast(const activation* x) { return set1(*x); }
  static sum dot(sum s, operand w, operand x) { return fma(w, x, s); }
  static vf total(sum s, float) { return s; }
  static void store(operand* p, operand w) { store_f(reinterpret_cast<float*>(p), w); }
  static operand load(const operand* p) { return load_f(reinterpret_cast<const float*>(p)); }
};

/// What the arithmetics of integer operands share; `parts` of them lie in a lane.
template <class Activation>
struct integer_math {
  using activation = Activation;
  using operand = vi;
  using sum = vsum;
  static constexpr index_t parts = 4 / static_cast<index_t>(sizeof(Activation));
  static constexpr int chains = 2; // a dot product waits longer for its sum than others take to start
  static sum join(sum a, sum b) { return as_sum(add_i(as_words(a), as_words(b))); }
  static vi broadcast(const activation* x) {
    std::int32_t word;
    std::memcpy(&word, x, sizeof word);
    return set1_i(word);
  }
  static vf total(sum s, float step) { return mul(to_float(as_words(s)), set1(step)); }
  static void store(operand* p, operand w) { store_i(p, w); }
  static operand load(const operand* p) { return load_i(p); }
};

struct half_math : integer_math<std::int16_t> {
  static const activation* activations(const packed_activations& x) { return x.halves; }
  static float step(const level_tables& tables) { return tables.half_step; }
  static sum start(std::int32_t) { return as_sum(set1_i(0)); }
  static sum dot(sum s, vi w, vi x) { return dot_halves(s, w, x); }
};

struct byte_math : integer_math<std::int8_t> {
  static const activation* activations(const packed_activations& x) { return x.bytes; }
  static float step(const level_tables& tables) { return tables.byte_step; }
  static sum start(std::int32_t activation_sum) { return as_sum(set1_i(-byte_bias * activation_sum)); }
  static sum dot(sum s, vi w, vi x) { return dot_bytes(s, w, x); }
};

/// Codes of 2 or 4 bits to fp32 operands.
template <int Bits>
struct exact_op : exact_math {
  static constexpr int bits = Bits;
  exact_table table;
  explicit exact_op(const level_tables& t) : table(load_exact_table(t.levels)) {}
  operand decode(vi word) const { return look_up(table, word); }
};

/// 8-bit codes to fp32 operands.
template <bool IsAffine>
struct exact_byte_op : exact_math {
  static constexpr int bits = 8;
  const float* levels;
  vf step;
  vf base;
  explicit exact_byte_op(const level_tables& t) : levels(t.levels), step(set1(t.step)), base(set1(t.base)) {}
  operand decode(vi word) const {
    if constexpr (IsAffine) return fma(to_float(low_bytes(word)), step, base);
    return gather(levels, low_bytes(word));
  }
};

template <int Bits>
struct half_op : half_math {
  static constexpr int bits = Bits;
  half_table table;
  explicit half_op(const level_tables& t) : table(load_half_table(t.halves)) {}
  vi decode(vi word) const {
    if constexpr (Bits == 8) return code_halves(word);
    return look_up_halves(table, word);
  }
};

template <int Bits>
struct byte_op : byte_math {
  static constexpr int bits = Bits;
  byte_table table;
  explicit byte_op(const level_tables& t) : table(load_byte_table(t.bytes)) {}
  vi decode(vi word) const {
    if constexpr (Bits == 8) return code_bytes(word);
    return look_up_bytes(table, word);
  }
};

/// Calls body(step, vector, operand) for the codes of one word of 32 bits per panel row.
///
/// The lowest code of every part of a word is decoded as it lies: codes that begin a byte are read from the
/// address of that byte, the others are shifted down.
template <class Op, class Body>
QLR_DETAIL_INLINE void decode_word(const Op& op, const std::uint8_t* codes, Body&& body) {
  constexpr int steps = 32 / Op::bits / static_cast<int>(Op::parts);
  constexpr int per_byte = 8 / Op::bits;
  vi word[panel_vectors];
  QLR_DETAIL_UNROLL
  for (int step = 0; step < steps; ++step) {
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < panel_vectors; ++v) {
      if (step % per_byte == 0) {
        word[v] = load_i(codes + 4 * lanes * v + step / per_byte);
        keep_in_register(word[v]);
      } else {
        word[v] = shift_right<Op::bits>(word[v]);
      }
      body(step, v, op.decode(word[v]));
    }
  }
}

/// Asks for the codes that follow in memory: caches fetch too late by themselves when little is computed.
QLR_DETAIL_INLINE void prefetch_codes(const std::uint8_t* codes) {
  constexpr index_t distance = 4096;
  for (index_t byte = 0; byte < 4 * panel_rows(lanes); byte += 64)
    __builtin_prefetch(codes + distance + byte);
}

/// One block of a panel: where its codes lie and what turns sums of operands into results.
struct block_job {
  const std::uint8_t* codes = nullptr;         // (word, vector, lane) of 32 bits
  index_t index = 0;                           // of the block in its row
  alignas(64) float scale[panel_rows(lanes)];  // of each row
  alignas(64) float offset[panel_rows(lanes)]; // what every operand of a row lacks
};

/// What all blocks of a product share.
struct panel_job {
  const packed_view& w;
  const packed_activations& x;
  index_t panel;
  // level ~= operand * operand_step + operand_offset; the entry of Q is scale (level - zero)
  float operand_step = 1;
  float operand_offset = 0;
  bool has_offset = false; // operand_offset or zero points are not zero

  void load(block_job& block, const block_cursor& at) const {
    const geometry& shape = w.shape;
    block.index = at.index();
    block.codes =
        w.codes + 4 * panel_rows(lanes) * shape.words_per_block * (panel * shape.num_blocks + at.index());
    const index_t index = (panel * shape.num_groups + at.group()) * panel_rows(lanes);
    for (index_t row = 0; row < panel_rows(lanes); row += lanes) {
      store_f(block.scale + row, load_numbers(w.scales, index + row));
      if (!has_offset) continue;
      const vf zero = w.has_zeros ? load_numbers(w.zeros, index + row) : set1(0.0F);
      store_f(block.offset + row, sub(set1(operand_offset), zero));
    }
  }
};

template <class Math>
panel_job make_job(const packed_view& w, const packed_activations& x, index_t panel) {
  panel_job job{w, x, panel};
  job.has_offset = w.has_zeros;
  if constexpr (Math::parts > 1) {
    job.operand_step = Math::step(*w.tables);
    job.operand_offset = w.tables->offset;
    job.has_offset = w.has_zeros || w.tables->offset != 0.0F;
  }
  return job;
}

template <class Math>
QLR_DETAIL_INLINE void start_sums(const packed_activations& x, index_t activation,
                                  typename Math::sum (&sums)[panel_vectors]) {
  const typename Math::sum start = Math::start(x.integer_sums != nullptr ? x.integer_sums[activation] : 0);
  QLR_DETAIL_UNROLL
  for (index_t v = 0; v < panel_vectors; ++v) sums[v] = start;
}

/// out (panel row) += the sums of one block for one token.
template <class Math>
QLR_DETAIL_INLINE void finish_sums(const panel_job& job, const block_job& block, index_t activation,
                                   const typename Math::sum (&sums)[panel_vectors], float* out) {
  const float step = Math::parts > 1 ? job.x.steps[activation] * job.operand_step : 1.0F;
  QLR_DETAIL_UNROLL
  for (index_t v = 0; v < panel_vectors; ++v) {
    vf total = Math::total(sums[v], step);
    if (job.has_offset) total = fma(load_f(block.offset + v * lanes), set1(job.x.sums[activation]), total);
    store_f(out + v * lanes, fma(load_f(block.scale + v * lanes), total, load_f(out + v * lanes)));
  }
}

/// Blocks whose operands are decoded before they are multiplied: a quarter of the first-level cache.
template <class Math>
constexpr index_t tile_blocks = Math::parts;

template <class Math>
struct decoded_tile {
  index_t blocks = 0;
  block_job block[tile_blocks<Math>];
  alignas(64)
      typename Math::operand operands[tile_blocks<Math>][most_block_cols / Math::parts * panel_vectors];
};

/// sums (token, panel row) += the blocks of a tile times Tokens tokens.
template <class Math, int Tokens>
QLR_DETAIL_INLINE void add_tile(const panel_job& job, const decoded_tile<Math>& tile, index_t first,
                                float* sums) {
  const index_t stride = job.w.shape.block_cols;
  for (index_t b = 0; b < tile.blocks; ++b) {
    const index_t activation = tile.block[b].index * job.x.tokens + first;
    typename Math::sum block[Tokens][panel_vectors];
    QLR_DETAIL_UNROLL
    for (int t = 0; t < Tokens; ++t) start_sums<Math>(job.x, activation + t, block[t]);
    const typename Math::operand* operand = tile.operands[b]; // (step, vector)
    const typename Math::activation* x = Math::activations(job.x) + activation * stride;
    for (index_t col = 0; col < stride; col += Math::parts, operand += panel_vectors, x += Math::parts) {
      typename Math::operand w[panel_vectors];
      QLR_DETAIL_UNROLL
      for (index_t v = 0; v < panel_vectors; ++v) w[v] = Math::load(operand + v);
      QLR_DETAIL_UNROLL
      for (int t = 0; t < Tokens; ++t) {
        const typename Math::operand activations = Math::broadcast(x + t * stride);
        QLR_DETAIL_UNROLL
        for (index_t v = 0; v < panel_vectors; ++v) block[t][v] = Math::dot(block[t][v], w[v], activations);
      }
    }
    QLR_DETAIL_UNROLL
    for (int t = 0; t < Tokens; ++t)
      finish_sums<Math>(job, tile.block[b], activation + t, block[t], sums + t * panel_rows(lanes));
  }
}

template <class Math>
QLR_NEVER_INLINE void multiply_tile(const panel_job& job, const decoded_tile<Math>& tile, index_t first,
                                    index_t count, float* sums) {
  for_token_runs<tile_tokens>(count, [&](auto tokens, index_t run) QLR_DETAIL_LAMBDA_INLINE {
    add_tile<Math, tokens()>(job, tile, first + run, sums + run * panel_rows(lanes));
  });
}

/// Several tokens: operands are decoded to a tile once.
template <class Op, class Math>
void multiply_tokens(const Op& op, const panel_job& job, index_t first, index_t count, float* sums) {
  decoded_tile<Math> tile;
  const index_t words = job.w.shape.words_per_block;
  for (block_cursor at(job.w.shape); !at.is_done();) {
    for (tile.blocks = 0; tile.blocks < tile_blocks<Math> && !at.is_done(); ++tile.blocks, at.advance()) {
      job.load(tile.block[tile.blocks], at);
      const std::uint8_t* codes = tile.block[tile.blocks].codes;
      typename Math::operand* operands = tile.operands[tile.blocks];
      for (index_t word = 0; word < words; ++word, codes += 4 * panel_rows(lanes)) {
        prefetch_codes(codes);
        decode_word(op, codes, [&](int, index_t, typename Math::operand w) QLR_DETAIL_LAMBDA_INLINE {
          Math::store(operands++, w);
        });
      }
    }
    multiply_tile<Math>(job, tile, first, count, sums);
  }
}

/// One token: operands are used as soon as they are decoded.
template <class Op, class Math>
void multiply_token(const Op& op, const panel_job& job, index_t token, float* sums) {
  const index_t words = job.w.shape.words_per_block;
  const typename Math::activation* const activations = Math::activations(job.x);
  block_job block;
  for (block_cursor at(job.w.shape); !at.is_done(); at.advance()) {
    job.load(block, at);
    const index_t activation = at.index() * job.x.tokens + token;
    typename Math::sum total[Math::chains][panel_vectors] = {};
    start_sums<Math>(job.x, activation, total[0]);
    const typename Math::activation* x = activations + activation * job.w.shape.block_cols;
    const std::uint8_t* codes = block.codes;
    for (index_t word = 0; word < words; ++word, codes += 4 * panel_rows(lanes)) {
      prefetch_codes(codes);
      decode_word(op, codes, [&](int step, index_t v, typename Math::operand w) QLR_DETAIL_LAMBDA_INLINE {
        typename Math::sum& sum = total[step % Math::chains][v];
        sum = Math::dot(sum, w, Math::broadcast(x + step * Math::parts));
      });
      x += 32 / Op::bits;
    }
    QLR_DETAIL_UNROLL
    for (index_t v = 0; v < panel_vectors; ++v)
      total[0][v] = Math::join(total[0][v], total[Math::chains - 1][v]);
    finish_sums<Math>(job, block, activation, total[0], sums);
  }
}

template <class Op, class Math>
void multiply_panel(const packed_view& w, const packed_activations& x, index_t panel, index_t first,
                    index_t count, float* sums) {
  const Op op(*w.tables);
  const panel_job job = make_job<Math>(w, x, panel);
  if (count == 1) {
    multiply_token<Op, Math>(op, job, first, sums);
  } else {
    multiply_tokens<Op, Math>(op, job, first, count, sums);
  }
}

// The functions of the table are templates so that they are compiled only where products are called.

/// The kernel of a precision and a width of codes.
template <class T>
void multiply(const packed_view& w, const packed_activations& x, index_t panel, index_t first, index_t count,
              float* sums) {
  const int bits = w.shape.code_bits;
  if (x.bytes != nullptr) {
    if (bits == 2) return multiply_panel<byte_op<2>, byte_math>(w, x, panel, first, count, sums);
    if (bits == 4) return multiply_panel<byte_op<4>, byte_math>(w, x, panel, first, count, sums);
    return multiply_panel<byte_op<8>, byte_math>(w, x, panel, first, count, sums);
  }
  if (x.halves != nullptr) {
    if (bits == 2) return multiply_panel<half_op<2>, half_math>(w, x, panel, first, count, sums);
    if (bits == 4) return multiply_panel<half_op<4>, half_math>(w, x, panel, first, count, sums);
    return multiply_panel<half_op<8>, half_math>(w, x, panel, first, count, sums);
  }
  if (bits == 2) return multiply_panel<exact_op<2>, exact_math>(w, x, panel, first, count, sums);
  if (bits == 4) return multiply_panel<exact_op<4>, exact_math>(w, x, panel, first, count, sums);
  if (w.tables->is_affine)
    return multiply_panel<exact_byte_op<true>, exact_math>(w, x, panel, first, count, sums);
  return multiply_panel<exact_byte_op<false>, exact_math>(w, x, panel, first, count, sums);
}

/// @tparam T  type of the activations
template <class T>
kernel_table<T> make_kernels() {
  return {kernel_set, &pack<T>, &project<T>, &multiply<float>, &add_low_rank<float>, &store<T>};
}
