// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Where codes, numbers and tiles of X lie.
#include <cuda/support.hpp>
#include <qlr/cuda/detail/level_table.hpp>
#include <qlr/cuda/detail/matmul_tile.hpp>
#include <qlr/cuda/packed_weights.hpp>
#include <qlr/quant/formats.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <array>
#include <set>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::cuda::detail;

/// Looks up the operands of one block and gives them back by row and column.
template <int Bits>
struct look_up_kernel {
  static constexpr std::string_view name = "look_up_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  const std::uint32_t* block;
  const std::uint32_t* table;
  std::uint16_t* out; // (16,64)

  template <kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    auto* shared = thread.template shared<std::uint32_t>(0);
    if constexpr (Bits != number_bits) fill_table<Bits>(thread, table, shared);
    thread.sync();
    const int lane = thread.index();
    const auto codes = load_codes<Bits>(block, lane);
    const level_lookup<Bits> look_up(shared, lane);
    for (int step = 0; step < steps_per_block; ++step) {
      std::uint32_t words[4];
      look_up(codes, step, words);
      for (int i = 0; i < 4; ++i) { // the operand's layout in kernel_thread's words
        const int row = lane / 4 + 8 * (i % 2);
        const int col = 16 * step + 2 * (lane % 4) + 8 * (i / 2);
        out[64 * row + col] = static_cast<std::uint16_t>(words[i] & 0xFFFFU);
        out[64 * row + col + 1] = static_cast<std::uint16_t>(words[i] >> 16U);
      }
    }
  }
};

template <int Bits>
void check_look_up() {
  constexpr std::size_t codes = std::size_t{1} << Bits;
  test::random_source random(3);
  std::vector<std::uint16_t> levels(codes);
  for (std::size_t i = 0; i < codes; ++i)
    levels[i] =
        Bits == number_bits ? static_cast<std::uint16_t>(i) : static_cast<std::uint16_t>(random.word());
  std::vector<std::uint32_t> table;
  if (Bits == 8) {
    for (const std::uint16_t level : levels) table.push_back(make_pair(level, level));
  } else if (Bits < 8) {
    for (std::size_t pair = 0; pair < codes * codes; ++pair)
      table.push_back(make_pair(levels[pair % codes], levels[pair / codes]));
  }
  std::vector<std::uint32_t> block(words_per_block(Bits), 0U);
  std::vector<std::size_t> expected(16 * 64);
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 64; ++col) {
      const std::size_t code = random.word() % codes;
      expected[64 * static_cast<std::size_t>(row) + static_cast<std::size_t>(col)] = code;
      const block_place place = place_in_block(row, col);
      for (int bit = 0; bit < Bits; ++bit) { // bit by bit: codes of 3 bits cross words
        const int position = bit_in_lane(place, Bits) + bit;
        const auto word = static_cast<std::size_t>(word_in_block(place.lane, position / 32, Bits));
        block[word] |= static_cast<std::uint32_t>((code >> bit) & 1U) << (position % 32);
      }
    }
  }
  const auto device_block = cuda::to_device(std::span<const std::uint32_t>(block));
  const auto device_table = cuda::to_device(std::span<const std::uint32_t>(table));
  cuda::device_buffer<std::uint16_t> out(16 * 64);
  test::test_launcher::launch(look_up_kernel<Bits>{device_block.data(), device_table.data(), out.data()},
                              {1, 32, table_bytes(8)}, nullptr);
  std::vector<std::uint16_t> values(16 * 64);
  cuda::copy_to_host(out.data(), std::span<std::uint16_t>(values), nullptr);
  int wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) wrong += values[i] == levels[expected[i]] ? 0 : 1;
  CAPTURE(Bits);
  CHECK(wrong == 0);
}

} // namespace

TEST_CASE("packed_layout: every element of a block has a place of its own", "[cuda]") {
  for (const int bits : {2, 3, 4, 8, 16}) {
    std::set<int> used;
    for (int row = 0; row < tile_rows; ++row) {
      for (int col = 0; col < block_cols; ++col) {
        const block_place place = place_in_block(row, col);
        const block_element back = element_at(place);
        CHECK(back.row == row);
        CHECK(back.col == col);
        for (int bit = 0; bit < bits; ++bit) {
          const int position = bit_in_lane(place, bits) + bit;
          const int word = word_in_block(place.lane, position / 32, bits);
          CHECK(word >= 0);
          CHECK(word < words_per_block(bits));
          CHECK(used.insert(32 * word + position % 32).second);
        }
      }
    }
    CHECK(used.size() == static_cast<std::size_t>(16 * 64 * bits));
  }
}

TEST_CASE("level_lookup: codes become the operand that multiply_add takes", "[cuda]") {
  if (!test::has_device()) return;
  check_look_up<2>();
  check_look_up<3>();
  check_look_up<4>();
  check_look_up<8>();
  check_look_up<16>();
}

TEST_CASE("column_map: no step mixes two groups, and columns come back", "[cuda]") {
  for (const index_t cols : {1, 15, 16, 17, 64, 65, 100, 200, 257}) {
    for (const index_t group : {1, 3, 10, 16, 32, 48, 64, 100, 128, 300}) {
      CAPTURE(cols, group);
      const column_map map = make_column_map(cols, std::min(group, cols));
      std::set<index_t> used;
      for (index_t j = 0; j < cols; ++j) {
        const index_t packed = map.packed_col(j);
        CHECK(packed < map.num_blocks * block_cols);
        CHECK(used.insert(packed).second);
        CHECK(map.original_col(packed) == j);
        CHECK(map.group_of(packed) == j / std::min(group, cols));
        const index_t step = packed / step_cols * step_cols;
        CHECK(map.group_of(step) == map.group_of(packed)); // the same scale for the whole step
        const index_t span = index_t{step_cols} * steps_per_scale(map);
        CHECK(map.group_of(packed / span * span) == map.group_of(packed));
      }
      index_t padding = 0;
      for (index_t packed = 0; packed < map.num_blocks * block_cols; ++packed)
        padding += map.original_col(packed) < 0 ? 1 : 0;
      CHECK(padding == map.num_blocks * block_cols - cols);
    }
  }
  CHECK(make_column_map(4096, 128).is_identity());
  CHECK(make_column_map(100, 100).is_identity());
  CHECK(!make_column_map(100, 10).is_identity());
}

TEST_CASE("swizzled_chunk: eight rows of a matrix touch all banks, and no chunk twice", "[cuda]") {
  std::set<int> used;
  for (int token = 0; token < 16; ++token) {
    for (int chunk = 0; chunk < 8; ++chunk) CHECK(used.insert(swizzled_chunk(token, chunk)).second);
  }
  CHECK(*used.rbegin() == 127);
  for (int chunk = 0; chunk < 8; ++chunk) {
    for (int first = 0; first < 16; first += 8) {
      std::set<int> banks; // of 16 bytes
      for (int row = 0; row < 8; ++row) banks.insert(swizzled_chunk(first + row, chunk) % 8);
      CHECK(banks.size() == 8);
    }
  }
}

TEST_CASE("packed_image: codes come back", "[cuda]") {
  for (const std::string_view format : {"sign", "nf2", "int3", "nf4", "q4_0", "int5", "uint8"}) {
    for (const index_t group : {10, 16, 64}) {
      if (find_format(format).is_fixed && group != 64) continue;
      format_options options;
      if (!find_format(format).is_fixed) options.group_size = group;
      const matrix<float> weight = test::normal_matrix(19, 77, 5);
      const quantized_matrix q = quantize(weight.view(), make_quantizer(format, options));
      const cuda::packed_image<float16> image(q.view());
      CAPTURE(format, group);
      CHECK(image.bits() == stored_bits(q.layout().bits));
      int wrong = 0;
      for (index_t i = 0; i < q.rows(); ++i) {
        for (index_t j = 0; j < q.cols(); ++j) wrong += image.code(i, j) == test::code_of(q, i, j) ? 0 : 1;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("packed_image: scales are stored in the narrowest type that keeps them", "[cuda]") {
  const auto kind_of = [](std::string_view format, scale_format scales) {
    const matrix<float> weight = test::normal_matrix(20, 128, 6);
    const quantized_matrix q = quantize(weight.view(), make_quantizer(format, {.scales = scales}));
    return cuda::packed_image<bfloat16>(q.view()).scales().kind;
  };
  CHECK(kind_of("nf4", {scale_coding::plain, scale_type::fp16}) == number_kind::fp16);
  CHECK(kind_of("nf4", {scale_coding::plain, scale_type::bf16}) == number_kind::fp16); // 8 bits fit as well
  CHECK(kind_of("nf4", {scale_coding::plain, scale_type::fp32}) == number_kind::fp32);
  CHECK(kind_of("mxint4", {scale_coding::plain, scale_type::e8m0}) == number_kind::fp16);
}

TEST_CASE("instructions: pairs are rounded once, as by the scalar functions", "[cuda]") {
  test::random_source random(9);
  for (int i = 0; i < 1000; ++i) {
    const auto a = static_cast<float>(random.normal());
    const auto b = static_cast<float>(random.normal());
    const std::uint32_t x = to_pair<bfloat16>(a, b);
    const std::uint32_t y = to_pair<bfloat16>(b, a);
    const float product = to_float(to_bfloat16(a)) * to_float(to_bfloat16(b));
    CHECK(multiply_pairs<bfloat16>(x, y) == make_pair(to_bfloat16(product).bits, to_bfloat16(product).bits));
    const float difference = to_float(to_bfloat16(a)) - to_float(to_bfloat16(b));
    CHECK(first_of<bfloat16>(subtract_pairs<bfloat16>(x, y)) == to_float(to_bfloat16(difference)));
    CHECK(second_of<float16>(scale_pair<float16>(to_pair<float16>(a, b), a, b)) ==
          to_float(to_float16(to_float(to_float16(b)) * b)));
  }
  CHECK(first_of<float16>(pair_of_ones<float16>()) == 1.0F);
  CHECK(second_of<bfloat16>(pair_of_ones<bfloat16>()) == 1.0F);
  CHECK(shift_words(0x80000000U, 0x3U, 31) == 7U);
  CHECK(shift_words(0x12345678U, 0U, 0) == 0x12345678U);
}
