// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "loqt_layers.hpp"

#include <qlr/train/loqt_schedule.hpp>
#include <qlr/train/optimizer.hpp>
#include <qlr/train/state.hpp>

#include <io/support.hpp>

#include <optional>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;
using namespace qlr::test::quantized_layers;
using qlr::train::loqt_layer;
using qlr::train::loqt_options;

namespace {

/// A layer with its optimizer, trained with refreshes at steps 0, 3, 7, ...
template <class Storage>
struct run_of {
  using T = qlr::train::compute_t<Storage>;

  run_of(const matrix<float>& weight, const any_quantizer& quantizer, const loqt_options& options)
      : layer(weight.view(), quantizer, options), optimizer(layer.parameters()) {}

  std::vector<double> steps(int first, int last) {
    const qlr::train::loqt_schedule schedule{.interval = 3, .growth = 1};
    std::vector<double> losses;
    for (int step = first; step < last; ++step) {
      if (schedule.is_refresh_step(step)) {
        if (!layer.is_refreshing()) layer.start_refresh();
        add_some_gradient(layer, 9, 300 + static_cast<std::uint64_t>(step));
        layer.finish_refresh();
      }
      losses.push_back(train_steps(layer, optimizer, step, step + 1).back());
    }
    return losses;
  }

  template <class Archive>
  void visit_state(Archive& archive) {
    layer.visit_state(archive, "layer.");
    optimizer.visit_state(archive, "optimizer.");
  }
  void save(const std::string& path) {
    qlr::train::save_state(path, [&](auto& archive) { visit_state(archive); });
  }
  void load(const std::string& path) {
    qlr::train::load_state(path, [&](auto& archive) { visit_state(archive); });
  }

  loqt_layer<Storage> layer;
  qlr::train::adamw<T> optimizer;
};

/// Those of nf3, moved by a number from the data.
struct levels_from_data {
  [[nodiscard]] static std::string name() { return "levels from data"; }
  [[nodiscard]] static quantized_layout layout(index_t rows, index_t cols) {
    return make_quantizer("nf3").layout(rows, cols);
  }
  [[nodiscard]] static quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                                 const executor& run) {
    const quantized_matrix q = make_quantizer("nf3").quantize(weight, hints, run);
    std::vector<float> levels = q.levels();
    for (float& level : levels) level += 0.125F * weight(0, 0);
    return {name(), q.layout(), std::move(levels), q.codes(), q.scales(), q.zeros()};
  }
};

struct choice {
  index_t rows;
  index_t cols;
  any_quantizer quantizer;
  std::optional<any_quantizer> projection{};
};

/// Both orientations; nested scales, zero points and one scale for all; P stored and quantized.
std::vector<choice> choices() {
  return {{12, 9, make_quantizer("nf4")},
          {9, 12, make_quantizer("nf4", {.group_size = 4, .scales = nested_bitsandbytes()})},
          {12, 12, make_quantizer("uint3", {.group_size = 5}), make_quantizer("nf4", {.group_size = 4})},
          {9, 70, make_quantizer("nf3", {.group_size = 8, .scales = double_quantized(4)}),
           make_quantizer("uint4")},
          {66, 5, make_quantizer("minmax4")},
          {12, 9, levels_from_data{}},
          {5, 66, make_quantizer("nvfp4")},
          {12, 9, make_quantizer("int2", {.group_size = group_per_tensor})}};
}

} // namespace

TEMPLATE_TEST_CASE("loqt_layer state: a run that was saved goes on with the bits of one that was not",
                   "[train]", float, double, bfloat16) {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  for (const choice& c : choices()) {
    const matrix<float> weight = random_numbers<float>(c.rows, c.cols, 21);
    const loqt_options options{.rank = 3, .compensation_steps = 2, .projection_quantizer = c.projection};
    run_of<TestType> whole(weight, c.quantizer, options);
    (void)whole.steps(0, 5);
    whole.save(path);
    const decomposition saved = whole.layer.to_decomposition();
    const std::vector<double> expected = whole.steps(5, 10); // a refresh is among them
    const matrix<float> other = random_numbers<float>(c.rows, c.cols, 99);
    CAPTURE(c.rows, c.cols, c.quantizer.name());
    run_of<TestType> fresh(other, c.quantizer, options);
    fresh.load(path);
    CHECK(!fresh.layer.is_refreshing());
    CHECK(has_equal_bytes(fresh.layer.to_decomposition(), saved));
    CHECK(fresh.layer.to_decomposition().quantized.format_name() == c.quantizer.name());
    CHECK(fresh.steps(5, 10) == expected);
    CHECK(has_equal_bytes(fresh.layer.to_decomposition(), whole.layer.to_decomposition()));
    run_of<TestType> used(other, c.quantizer, options);
    (void)used.steps(0, 4);
    used.load(path);
    CHECK(used.steps(5, 10) == expected);
    CHECK(has_equal_bytes(used.layer.to_decomposition(), whole.layer.to_decomposition()));
  }
}

TEST_CASE("loqt_layer state: loading keeps T in its place, with a gradient of zero", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  const matrix<float> weight = random_numbers<float>(12, 9, 21);
  run_of<float> run(weight, make_quantizer("nf4"), {.rank = 3});
  (void)run.steps(0, 2);
  run.save(path);
  const auto before = run.layer.parameters()[0];
  run.load(path);
  const auto after = run.layer.parameters()[0];
  CHECK(std::get<float*>(after.values) == std::get<float*>(before.values));
  CHECK(after.gradient == before.gradient);
  for (index_t i = 0; i < after.size(); ++i) CHECK(after.gradient[i] == 0);
}

TEST_CASE("loqt_layer state: works without a low-rank part and with a single element", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  for (const low_rank_shape& shape : {low_rank_shape{0, 6, 9, 0}, low_rank_shape{0, 1, 1, 1}}) {
    const matrix<float> weight = random_numbers<float>(shape.rows, shape.cols, 21);
    run_of<float> whole(weight, make_quantizer("nf4"), {.rank = shape.rank});
    (void)whole.steps(0, 2);
    whole.save(path);
    run_of<float> fresh(matrix<float>(shape.rows, shape.cols, 1.0F), make_quantizer("nf4"),
                        {.rank = shape.rank});
    fresh.load(path);
    CHECK(has_equal_bytes(fresh.layer.to_decomposition(), whole.layer.to_decomposition()));
  }
}

TEST_CASE("loqt_layer state: a layer that is being refreshed cannot be saved, and says so", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  const matrix<float> weight = random_numbers<float>(12, 9, 21);
  run_of<float> run(weight, make_quantizer("nf4"), {.rank = 3});
  const auto refusal = [&] { return report_of([&] { run.save(path); }); };
  const char* const expected =
      "layer layer. is being refreshed; its state can be saved after finish_refresh()";
  CHECK(refusal().says(status_code::invalid_argument, expected));
  (void)run.steps(0, 1);
  CHECK(refusal().message.empty());
  run.layer.start_refresh();
  CHECK(refusal().says(status_code::invalid_argument, expected));
}

TEST_CASE("loqt_layer state: a state of another layer is refused, and nothing changes", "[train]") {
  const temporary_directory directory;
  const std::string path = directory.file("state.safetensors");
  const matrix<float> weight = random_numbers<float>(12, 9, 21);
  run_of<float> saved(weight, make_quantizer("nf4"), {.rank = 3});
  (void)saved.steps(0, 2);
  saved.save(path);
  const auto refusal = [&](const any_quantizer& quantizer, const loqt_options& options) {
    run_of<float> run(weight, quantizer, options);
    (void)run.steps(0, 1);
    const decomposition before = run.layer.to_decomposition();
    report result = report_of([&] { run.load(path); });
    CHECK(has_equal_bytes(run.layer.to_decomposition(), before));
    return result;
  };
  CHECK(refusal(make_quantizer("nf4"), {.rank = 2})
            .says(status_code::malformed_file, "tensor layer.projection has another shape"));
  CHECK(refusal(make_quantizer("int3"), {.rank = 3})
            .says(status_code::malformed_file, "tensor layer.quantized.codes has another shape"));
  CHECK(refusal(make_quantizer("nf4"), {.rank = 3, .projection_quantizer = make_quantizer("nf4")})
            .says(status_code::malformed_file, "no tensor is named layer.projection.codes"));
  run_of<bfloat16> other(weight, make_quantizer("nf4"), {.rank = 3});
  CHECK(report_of([&] {
          other.load(path);
        }).says(status_code::malformed_file, "tensor layer.projection is F32, the state has another type"));
}
