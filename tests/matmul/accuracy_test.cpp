// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "support.hpp"

#include <qlr/decompose/factor_storage.hpp>

#include <string_view>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("matmul: every format, precision and instruction set keeps its error bound", "[matmul][property]") {
  for (const format_description& format : named_formats) {
    const any_quantizer quantizer = make_quantizer(format.name);
    for (const precision mode : all_precisions) {
      check_product(make_problem(quantizer, 70, 200, 7), 5, mode);
      check_product(make_problem(quantizer, 3, 65, 0), 1, mode);
      check_product(make_problem(quantizer, 1, 1, 1), 2, mode);
      check_product(make_problem(quantizer, 65, 127, 16), 17, mode);
    }
  }
}

TEST_CASE("matmul: every pair of sizes around the tiles is right", "[matmul][property]") {
  // A Latin square: all pairs of rows and columns, rows and tokens, columns and tokens.
  constexpr index_t sizes[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 500};
  constexpr index_t ranks[] = {0, 1, 7, 16, 64};
  constexpr std::string_view names[] = {"nf4", "uint4", "int2", "nf3", "int8", "uint2", "uint8"};
  for (std::size_t i = 0; i < std::size(sizes); ++i) {
    for (std::size_t j = 0; j < std::size(sizes); ++j) {
      const index_t tokens = sizes[(i + j) % std::size(sizes)];
      const any_quantizer quantizer = make_quantizer(names[(2 * i + 3 * j) % std::size(names)]);
      const problem p = make_problem(quantizer, sizes[i], sizes[j], ranks[(i + 2 * j) % std::size(ranks)]);
      for (const precision mode : all_precisions) check_product(p, tokens, mode);
    }
  }
}

TEST_CASE("matmul: every group size is right", "[matmul][property]") {
  for (const std::string_view name : {"nf4", "uint4", "int2", "uint3", "int8"}) {
    for (const index_t group : {index_t{16}, index_t{17}, index_t{63}, index_t{100}, index_t{128},
                                group_per_row, group_per_tensor}) {
      const any_quantizer quantizer = make_quantizer(name, {.group_size = group});
      for (const precision mode : all_precisions) {
        check_product(make_problem(quantizer, 17, 299, 3), 6, mode);
        check_product(make_problem(quantizer, 66, 130, 0), 1, mode);
      }
    }
  }
}

TEST_CASE("prepack: factors take the narrowest type that changes none of their numbers", "[matmul]") {
  struct kind {
    factor_storage storage;
    double bytes; // per number, where nothing is padded
  };
  for (const kind k : {kind{factor_storage::fp32, 4.0}, kind{factor_storage::fp16, 2.0},
                       kind{factor_storage::int8, 1.25}, kind{factor_storage::int4, 1.25}}) {
    for (const isa set : available_sets()) {
      CAPTURE(to_string(k.storage), to_string(set));
      problem p = make_problem(make_quantizer("nf4"), 192, 128, 5);
      matrix<float> vectors = normal_matrix(5, 192, 2); // L transposed
      p.right = normal_matrix(5, 128, 3);
      round_factor(vectors, k.storage);
      round_factor(p.right, k.storage);
      p.left = to_row_major(std::as_const(vectors).view().transposed());
      const packed_factors packed =
          prepack_factors(std::as_const(p.left).view(), std::as_const(p.right).view(), 1.0F, set);
      CHECK(has_same_bits(packed.left(), p.left));
      CHECK(has_same_bits(packed.right(), p.right));
      CHECK(static_cast<double>(packed.size_bytes()) <= k.bytes * 5 * (192 + 128));
      if (k.storage == factor_storage::fp32) CHECK(packed.size_bytes() == 4 * 5 * (192 + 128));
    }
    problem p = make_problem(make_quantizer("nf4"), 70, 200, 9);
    matrix<float> vectors = normal_matrix(9, 70, 2);
    round_factor(vectors, k.storage);
    round_factor(p.right, k.storage);
    p.left = to_row_major(std::as_const(vectors).view().transposed());
    for (const precision mode : all_precisions) {
      check_product(p, 1, mode);
      check_product(p, 7, mode);
    }
  }
}

TEST_CASE("prepack: unpack returns the same codes, scales, zero points and factors", "[matmul][property]") {
  for (const format_description& format : named_formats) {
    const problem p = make_problem(make_quantizer(format.name), 37, 150, 5);
    for (const isa set : available_sets()) {
      CAPTURE(format.name, to_string(set));
      const packed_weights packed = p.pack(set);
      CHECK(has_same_bytes(packed.unpack(p.q.format_name()), p.q));
      CHECK(has_same_bits(packed.low_rank().left(), p.left));
      CHECK(has_same_bits(packed.low_rank().right(), p.right));
    }
  }
  for (const std::string_view scales : {"dq", "dq-bnb", "bf16", "fp32"}) {
    const problem p = make_problem(
        make_quantizer("nf4", {.group_size = 32, .scales = parse_scale_format(scales)}), 9, 70, 2);
    CHECK(has_same_bytes(p.pack(isa::scalar).unpack("nf4"), p.q));
    check_product(p, 3, precision::exact);
  }
}
