// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/compression_choice.hpp>

#include <support/catch.hpp>
#include <support/oracles.hpp>

#include <set>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("lq_lora_grid: the 432 configurations with the sizes of the paper", "[decompose]") {
  const std::vector<compression_choice> grid = lq_lora_grid(std::vector<index_t>{0});
  REQUIRE(grid.size() == 432);
  constexpr index_t size = 1024; // a multiple of every group and superblock
  std::set<std::string> names;
  std::set<index_t> sizes;
  double smallest = 100;
  double largest = 0;
  std::size_t at = 0;
  // Order and bits per weight as written in the paper: b + b0 / B0 + b1 / (B0 B1).
  for (const int bits : {2, 3, 4, 8}) {
    for (const int scale_bits : {2, 3, 4, 8}) {
      for (const int super_bits : {16, 16, 32}) {
        for (const int group : {16, 32, 64}) {
          for (const int block : {16, 64, 256}) {
            const index_t bytes = make_quantizer(grid[at]).layout(size, size).storage_bytes();
            const double expected = bits + static_cast<double>(scale_bits) / group +
                                    static_cast<double>(super_bits) / (group * block);
            const double found = 8.0 * static_cast<double>(bytes) / static_cast<double>(size * size);
            CHECK(found == expected); // powers of two throughout
            smallest = std::min(smallest, found);
            largest = std::max(largest, found);
            sizes.insert(bytes);
            names.insert(to_string(grid[at]));
            ++at;
          }
        }
      }
    }
  }
  CHECK(names.size() == 432);
  CHECK(sizes.size() <= 288); // bf16 and fp16 are equal
  CHECK(is_near(smallest, 2.0322, 5e-5));
  CHECK(largest == 8.625);
}

TEST_CASE("grids: every rank has all formats, and every choice can be made", "[decompose]") {
  const std::vector<index_t> ranks{0, 3, 8};
  CHECK(lq_lora_grid(ranks).size() == 3 * 432);
  CHECK(lq_lora_grid(std::vector<index_t>{}).empty());
  const std::vector<compression_choice> grid = small_grid(ranks);
  CHECK(grid.size() == 36);
  CHECK(grid[13].rank == 3);
  for (const compression_choice& choice : grid) {
    CHECK(make_quantizer(choice).name() == choice.quantizer);
    CHECK(make_quantizer(choice).layout(5, 64).group_size == choice.format.group_size);
  }
}

TEST_CASE("compression_choice: has a readable name", "[decompose]") {
  CHECK(to_string(compression_choice{}) == "nf4 64 fp16");
  CHECK(to_string(compression_choice{
            "int3", {32, double_quantized(4, scale_type::bf16, 16), false}, 5, factor_storage::int8}) ==
        "int3 32 dq:4,bf16,16 rank 5 int8");
}

TEST_CASE("compression_choice: suits a shape or not", "[decompose]") {
  CHECK(suits({"nf4", {64, {}, false}, 3}, 3, 64));
  CHECK_FALSE(suits({"nf4", {64, {}, false}, 4}, 3, 64));
  CHECK_FALSE(suits({"nf4", {64, {}, false}, -1}, 3, 64));
  CHECK_FALSE(suits({"nf4", {64, {}, false}, 0}, 3, 63));
  CHECK(suits({"nf4", {}, 0}, 3, 63)); // the format's own group may be short
  CHECK(suits({"nf4", {group_per_row, {}, false}, 0}, 3, 1));
}
