// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/gguf_blocks.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "../support/oracles.hpp"
#include "support.hpp"

#include <qlr/quant/dequantize.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using io::gguf_tensor_type;

namespace {

/// Element `index` of a row of blocks, by the letter of the format.
double slow_element(gguf_tensor_type type, const std::byte* row, index_t index) {
  const index_t bytes = type == gguf_tensor_type::q8_0 ? 34 : 18;
  const std::byte* block = row + index / 32 * bytes;
  float16 d;
  std::memcpy(&d, block, 2);
  const index_t place = index % 32;
  if (type == gguf_tensor_type::q8_0) {
    const int byte = std::to_integer<int>(block[2 + place]);
    return slow_value(d) * (byte < 128 ? byte : byte - 256);
  }
  const int byte = std::to_integer<int>(block[2 + place % 16]);
  const int code = place < 16 ? byte % 16 : byte / 16;
  constexpr int levels[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return slow_value(d) * (type == gguf_tensor_type::q4_0 ? code - 8 : levels[code]);
}

} // namespace

TEST_CASE("gguf blocks: every format comes back, and its bytes mean the same numbers", "[io][host]") {
  for (const char* const name : {"q4_0", "iq4_nl", "q8_0"}) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<index_t, index_t>>{{1, 32}, {3, 64}, {5, 160}, {0, 32}, {3, 0}}) {
      CAPTURE(name, rows, cols);
      const matrix<float> w = weight_like_matrix(rows, cols, 3);
      const quantized_matrix q = quantize(w.view(), make_quantizer(name));
      const std::vector<std::byte> blocks = io::to_gguf_blocks(q.view());
      const gguf_tensor_type type = *io::find_gguf_type(q.view());
      CHECK(io::detail::gguf_format_name(type) == name);
      const quantized_matrix back = io::from_gguf_blocks(type, blocks, rows, cols);
      CHECK(has_same_bytes(back, q));
      CHECK(back.format_name() == name);
      const matrix<float> values = dequantize(q);
      const index_t row_bytes = rows == 0 ? 0 : static_cast<index_t>(blocks.size()) / rows;
      index_t num_wrong = 0;
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < cols; ++j) {
          const auto expected = static_cast<float>(slow_element(type, blocks.data() + i * row_bytes, j));
          if (!is_same(values(i, j), expected)) ++num_wrong;
        }
      }
      CHECK(num_wrong == 0);
    }
  }
}

TEST_CASE("gguf blocks: other formats with the same levels are stored without loss", "[io][host]") {
  const matrix<float> w = weight_like_matrix(4, 192, 5);
  for (const char* const name : {"int4", "int8", "mxint4", "mxint8"}) {
    for (const index_t group : {index_t{32}, index_t{64}, group_per_row, group_per_tensor}) {
      CAPTURE(name, group);
      const quantized_matrix q =
          quantize(w.view(), make_quantizer(name, {.group_size = group, .scales = {}}));
      const std::vector<std::byte> blocks = io::to_gguf_blocks(q.view());
      const quantized_matrix back = io::from_gguf_blocks(*io::find_gguf_type(q.view()), blocks, 4, 192);
      CHECK(squared_error(dequantize(back), dequantize(q)) == 0.0);
    }
  }
}

TEST_CASE("gguf blocks: what they cannot hold is refused", "[io][host]") {
  const auto refuse = [](status_code code, const std::vector<std::string>& parts,
                         const any_quantizer& quantizer, index_t cols) {
    const matrix<float> w = weight_like_matrix(2, cols, 6);
    const quantized_matrix q = quantize(w.view(), quantizer);
    check_error(code, parts, [&] { (void)io::to_gguf_blocks(q.view()); });
  };
  refuse(status_code::invalid_argument, {"33 columns", "multiples of 32"}, make_quantizer("q4_0"), 33);
  refuse(status_code::unsupported, {"no GGUF block has"}, make_quantizer("nf4"), 64);
  refuse(status_code::unsupported, {"no GGUF block has"}, make_quantizer("uint4"), 64);
  refuse(status_code::unsupported, {"groups of 16"}, make_quantizer("int4", {.group_size = 16, .scales = {}}),
         64);
  refuse(status_code::unsupported, {"no fp16 number"},
         make_quantizer("int4",
                        {.group_size = 32, .scales = scale_format{scale_coding::plain, scale_type::fp32}}),
         64);
  std::vector<std::byte> blocks(36);
  check_error(status_code::shape_mismatch, {"label: 36 bytes", "2 x 64"},
              [&] { (void)io::from_gguf_blocks(gguf_tensor_type::q4_0, blocks, 2, 64, "label: "); });
  check_error(status_code::invalid_argument, {"2 x 33"},
              [&] { (void)io::from_gguf_blocks(gguf_tensor_type::q4_0, blocks, 2, 33); });
  check_error(status_code::invalid_argument, {"type is F32"},
              [&] { (void)io::from_gguf_blocks(gguf_tensor_type::f32, blocks, 2, 32); });
  blocks[19] = std::byte{0x7C}; // infinity
  check_error(status_code::malformed_file, {"block 1 is not finite"},
              [&] { (void)io::from_gguf_blocks(gguf_tensor_type::q4_0, blocks, 2, 32); });
}

TEST_CASE("gguf numbers: F32, F16 and BF16, any strides", "[io][host]") {
  matrix<float> w(2, 3);
  for (index_t i = 0; i < 6; ++i) w.data()[i] = static_cast<float>(i) + 0.5F;
  const auto numbers = io::to_gguf_numbers(std::as_const(w).view().transposed(), gguf_tensor_type::f32);
  REQUIRE(numbers.size() == 24);
  CHECK(io::detail::load_element<float>(numbers.data() + 4) == 3.5F);
  CHECK(io::detail::element_to_float<float16>(io::to_gguf_numbers(w.view(), gguf_tensor_type::f16).data() +
                                              2) == 1.5F);
  CHECK(io::detail::element_to_float<bfloat16>(io::to_gguf_numbers(w.view(), gguf_tensor_type::bf16).data() +
                                               10) == 5.5F);
  w(1, 2) = 1e6F;
  check_error(status_code::unsupported, {"(1, 2) is 1e+06", "F16"},
              [&] { (void)io::to_gguf_numbers(w.view(), gguf_tensor_type::f16); });
  check_error(status_code::invalid_argument, {"type is Q8_0"},
              [&] { (void)io::to_gguf_numbers(w.view(), gguf_tensor_type::q8_0); });
  w(0, 1) = std::numeric_limits<float>::quiet_NaN();
  check_error(status_code::non_finite, {"(0, 1)"},
              [&] { (void)io::to_gguf_numbers(w.view(), gguf_tensor_type::f32); });
}
