// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <cuda/support.hpp>
#include <qlr/cuda/detail/matmul_items.hpp>
#include <qlr/cuda/device_buffer.hpp>
#include <support/catch.hpp>

#include <set>
#include <tuple>
#include <vector>

namespace {

using qlr::cuda::detail::item_kind;
using qlr::cuda::detail::work_item;

/// The items of tickets 0, 1, ...
struct items_kernel {
  static constexpr std::string_view name = "items_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;
  qlr::cuda::detail::matmul_arguments arguments;
  work_item* out;
  std::uint32_t tickets;

  template <qlr::cuda::detail::kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    for (std::uint32_t ticket = 0; ticket < tickets; ++ticket) {
      const work_item item = make_item(thread, arguments, ticket, 8);
      if (thread.index() == 0) out[ticket] = item;
    }
  }
};

std::vector<work_item> items_of(const qlr::cuda::detail::matmul_arguments& arguments, std::uint32_t tickets) {
  qlr::cuda::device_buffer<work_item> out(tickets);
  qlr::test::test_launcher::launch(items_kernel{arguments, out.data(), tickets}, {1, 32, 0}, nullptr);
  std::vector<work_item> items(tickets);
  qlr::cuda::copy_to_host(out.data(), std::span<work_item>(items), nullptr);
  return items;
}

} // namespace

TEST_CASE("matmul items: each slice of each tile once, in bands of 8 token tiles", "[cuda]") {
  if (!qlr::test::has_device()) return;
  for (const int token_tiles : {1, 7, 8, 9, 19}) {
    for (const int row_tiles : {1, 3}) {
      for (const int slices : {1, 2}) {
        CAPTURE(token_tiles, row_tiles, slices);
        qlr::cuda::detail::matmul_arguments arguments;
        arguments.weights.columns = qlr::cuda::detail::make_column_map(300, 300); // 5 blocks
        arguments.schedule.token_tiles = token_tiles;
        arguments.schedule.row_tiles = row_tiles;
        arguments.schedule.slices = slices;
        arguments.schedule.slice_stages = slices == 1 ? 5 : 3;
        const int count = token_tiles * row_tiles * slices;
        const std::vector<work_item> items = items_of(arguments, static_cast<std::uint32_t>(count) + 2);
        std::set<std::tuple<int, int, int>> seen;
        for (int i = 0; i < count; ++i) {
          const work_item& item = items[static_cast<std::size_t>(i)];
          CHECK(item.kind == item_kind::tile);
          CHECK((item.token_tile >= 0 && item.token_tile < token_tiles));
          CHECK((item.row_tile >= 0 && item.row_tile < row_tiles));
          CHECK(item.token_tile / 8 == i / (8 * row_tiles * slices));
          CHECK(item.first_block == (item.slice == 0 ? 0 : 3));
          CHECK(item.num_stages == (slices == 1 ? 5 : item.slice == 0 ? 3 : 2));
          seen.insert({item.token_tile, item.row_tile, item.slice});
        }
        CHECK(static_cast<int>(seen.size()) == count);
        CHECK(items[static_cast<std::size_t>(count)].kind == item_kind::none);
        CHECK(items[static_cast<std::size_t>(count) + 1].kind == item_kind::none);
      }
    }
  }
}
