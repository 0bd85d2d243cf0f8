// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "decompositions.hpp"

#include <qlr/io/adapter.hpp>
#include <qlr/io/peft.hpp>

#include <support/adapter.hpp>
#include <support/generators.hpp>
#include <support/oracles.hpp>

#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

std::vector<io::named_adapter> make_adapters(double ratio = 0.7) {
  std::vector<io::named_adapter> adapters;
  for (const index_t rows : {9, 40}) {
    adapter_options options;
    options.high_bits = rows == 9 ? 3 : 2;
    options.group_size = 16;
    options.ratio = ratio;
    const matrix<float> left = normal_matrix(rows, 5, 1);
    const matrix<float> right = normal_matrix(5, 33, 2);
    adapters.push_back({"layer." + std::to_string(rows), "B", "A",
                        quantize_adapter(left.view(), right.view(), options, 0.1F).adapter});
  }
  return adapters;
}

bool is_same(const quantized_matrix& a, const quantized_matrix& b) {
  return has_same_bytes(a, b) && a.format_name() == b.format_name() && a.rows() == b.rows() &&
         a.cols() == b.cols();
}

using change = std::function<void(file_parts&)>;

void check_refused(const change& changes, const std::vector<std::string>& parts,
                   status_code code = status_code::malformed_file) {
  const temporary_directory folder;
  const std::string path = folder.file("a.safetensors");
  io::save_adapters(path, make_adapters());
  file_parts file(path);
  changes(file);
  file.write(path);
  CAPTURE(parts);
  check_error(code, parts, [&] { (void)io::load_adapters(path); });
}

} // namespace

TEST_CASE("save_adapters, load_adapters: return the same bits", "[io]") {
  for (const double ratio : {0.0, 0.7, 1.0}) { // 1: no low part
    const temporary_directory folder;
    const std::vector<io::named_adapter> saved = make_adapters(ratio);
    io::save_adapters(folder.file("a"), saved);
    const std::vector<io::named_adapter> loaded = io::load_adapters(folder.file("a"));
    REQUIRE(loaded.size() == saved.size());
    for (std::size_t i = 0; i < saved.size(); ++i) {
      const quantized_adapter& a = saved[i].adapter;
      const quantized_adapter& b = loaded[i].adapter;
      CHECK(saved[i].module == loaded[i].module);
      CHECK((loaded[i].left_name == "B" && loaded[i].right_name == "A"));
      CHECK(b.scale == a.scale);
      CHECK((is_same(a.left.high, b.left.high) && is_same(a.left.low, b.left.low)));
      CHECK((is_same(a.right.high, b.right.high) && is_same(a.right.low, b.right.low)));
      CHECK(squared_error(dequantize_left(a), dequantize_left(b)) == 0.0);
    }
    io::save_adapters(folder.file("b"), loaded);
    CHECK(read_file(folder.file("a")) == read_file(folder.file("b")));
  }
}

TEST_CASE("load_adapters: every entry and every tensor is needed and checked", "[io]") {
  const temporary_directory folder;
  io::save_adapters(folder.file("a"), make_adapters());
  const file_parts whole(folder.file("a"));
  for (const auto& entry : whole.metadata) {
    CAPTURE(entry.first);
    check_refused([&](file_parts& file) { file.metadata.erase(entry.first); }, {entry.first, "missing"});
  }
  for (const auto& entry : whole.tensors) {
    CAPTURE(entry.first);
    check_refused([&](file_parts& file) { file.tensors.erase(entry.first); }, {entry.first, "missing"});
  }
  const auto set = [](const std::string& key, const std::string& value) {
    return [=](file_parts& file) { file.metadata.at(key) = value; };
  };
  check_refused(set("qlr.format", "decomposition"), {"qlr.format", "'adapter'"});
  check_refused(set("qlr.version", "2"), {"qlr.version is 2"}, status_code::unsupported);
  check_refused(set("qlr.pairs", "3"), {"2.module", "missing"});
  check_refused(set("qlr.pairs", "9999999999"), {"qlr.pairs"});
  check_refused(set("qlr.pairs", "-1"), {"qlr.pairs"});
  check_refused(set("0.scale", "nan"), {"0.scale"});
  check_refused(set("1.L.high.cols", "39"), {"do not fit"});
  check_refused(
      [](file_parts& file) { file.put<std::uint16_t>("0.R.low.scales", 1, 0x7F80); }, // bf16 infinity
      {"0.R.low", "not finite"});
}

TEST_CASE("load_adapters: a file that is cut off anywhere is refused", "[io]") {
  const temporary_directory folder;
  io::save_adapters(folder.file("a"), make_adapters());
  const byte_vector whole = read_file(folder.file("a"));
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    write_file(folder.file("b"), {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
    check_error(status_code::malformed_file, {}, [&] { (void)io::load_adapters(folder.file("b")); });
  }
}

TEST_CASE("load_adapters: files with changed bytes load or are refused, and decode to finite shapes",
          "[io]") {
  const temporary_directory folder;
  io::save_adapters(folder.file("a"), make_adapters());
  const byte_vector whole = read_file(folder.file("a"));
  random_source random(1);
  int loaded = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    byte_vector changed = whole;
    for (index_t i = 0; i <= random.below(3); ++i) {
      const auto at = static_cast<std::size_t>(random.below(static_cast<index_t>(changed.size())));
      changed[at] = static_cast<std::byte>(random.below(256));
    }
    const report outcome = report_of([&] {
      for (const io::named_adapter& named : io::load_adapters(io::safetensors_file(std::span(changed)))) {
        CHECK(dequantize_left(named.adapter).rows() == named.adapter.rows());
        CHECK(dequantize_right(named.adapter).cols() == named.adapter.cols());
      }
      ++loaded;
    });
    (void)outcome; // anything but a qlr::error ends the test
  }
  CHECK(loaded > 50); // codes may be anything, most of the file is its header
  CHECK(loaded < 3000);
}

TEST_CASE("save_adapters: parts that do not fit are refused and nothing is written", "[io]") {
  const temporary_directory folder;
  std::vector<io::named_adapter> adapters = make_adapters();
  std::swap(adapters[0].adapter.left.low, adapters[1].adapter.left.low);
  check_error(status_code::shape_mismatch, {"do not fit"},
              [&] { io::save_adapters(folder.file("a"), adapters); });
  adapters = make_adapters();
  adapters[1].adapter.scale = std::numeric_limits<float>::infinity();
  check_error(status_code::non_finite, {"scale is inf"},
              [&] { io::save_adapters(folder.file("a"), adapters); });
  CHECK(folder.names().empty());
}

TEST_CASE("peft and packed files: the product s L R survives both", "[io]") {
  // alpha = 2 r, rsLoRA and patterns: 1e-6 after everything.
  for (
      const char* const config :
      {R"({"r": 4, "lora_alpha": 8})", R"({"r": 4, "lora_alpha": 8, "use_rslora": true})",
       R"({"r": 16, "lora_alpha": 5, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"layers.0.q_proj": 12}})"}) {
    const temporary_directory folder;
    const matrix<float> a = normal_matrix(4, 25, 1);
    const matrix<float> b = normal_matrix(11, 4, 2);
    io::write_safetensors(
        folder.file("adapter_model.safetensors"),
        std::vector{io::make_f32_entry("base_model.model.layers.0.q_proj.lora_A.weight", a.view()),
                    io::make_f32_entry("base_model.model.layers.0.q_proj.lora_B.weight", b.view())});
    write_file(folder.file("adapter_config.json"), to_bytes(config));
    const io::peft_file source(folder.file(""));
    const io::peft_pair& pair = source.pairs().at(0);
    const matrix<float> left = source.left(pair);
    const matrix<float> right = source.right(pair);
    const quantized_adapter adapter = quantize_adapter(left.view(), right.view(), {}, pair.scale).adapter;
    io::save_adapters(folder.file("packed"), std::vector<io::named_adapter>{{pair.module, "", "", adapter}});
    const quantized_adapter packed = io::load_adapters(folder.file("packed")).at(0).adapter;
    const temporary_directory target;
    io::save_peft(target.file("adapter_model.safetensors"), source,
                  std::vector<io::peft_factors>{{dequantize_left(packed), dequantize_right(packed)}},
                  io::dtype::f32);
    const io::peft_file again(target.file(""));
    const io::peft_pair& last = again.pairs().at(0);
    CHECK(packed.scale == last.scale);
    CHECK(slow_error(slow_product(again.left(last), again.right(last)),
                     slow_product(dequantize_left(adapter), dequantize_right(adapter))) < 1e-6);
  }
}
