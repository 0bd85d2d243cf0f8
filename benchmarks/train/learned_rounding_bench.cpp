// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// The output error of learned rounding beside that of rounding, error feedback and low-rank corrections.
//
//   learned_rounding  error_rel = || X (W - W_hat)^T ||_F / || X W^T ||_F of plain codes and scales (with
//                     L and R in fp16 for best_rank16), over_gptq = that over GPTQ's in the same run, both on
//                     scales of the plain quantizer; bits_per_weight with fp32 scales
//
// Methods that end in _search have scales searched with the mean squares of X as weights, or start there.
// Layers are fitted to a root of the covariance of X, --steps=N steps (default 300) at most, cosine rate from
// 1e-2, from 3e-4 where they start at GPTQ's result; the best step counts. W and X are those of
// --inputs=FILE, a safetensors file, else made here.

#include <harness/matrices.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/decompose/presets.hpp>
#include <qlr/decompose/reconstruct.hpp>
#include <qlr/host/covariance.hpp>
#include <qlr/host/decompose.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/quant/formats.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>
#include <qlr/train/reconstruct_output.hpp>

#include <Eigen/Cholesky>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::bench;
using namespace qlr::train;

constexpr index_t rank = 64;

using rows_of_floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<const rows_of_floats> as_eigen(const matrix<float>& x) {
  return {x.data(), x.rows(), x.cols()};
}

matrix<float> from_eigen(const rows_of_floats& x) {
  matrix<float> out(x.rows(), x.cols());
  Eigen::Map<rows_of_floats>(out.data(), x.rows(), x.cols()) = x;
  return out;
}

struct arguments {
  std::string inputs;
  index_t num_steps = 300;
};

arguments& given() {
  static arguments values;
  return values;
}

/// Correlated tokens (t,n), a few inputs of them loud.
matrix<float> make_tokens(index_t tokens, index_t n) {
  matrix<float> x = make_matrix(matrix_kind::gaussian, tokens, n, {}, 7);
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t j = 1; j < n; ++j) x(t, j) += 0.7F * x(t, j - 1);
    for (index_t j = 5; j < n; j += 97) x(t, j) *= 20.0F;
  }
  return x;
}

/// W, X, and what stands for X: a root B of its covariance, with B W^T.
struct layer_problem {
  matrix<float> weight; ///< (m,n)
  matrix<float> x;      ///< (t,n)
  matrix<double> covariance;
  std::vector<float> mean_squares; ///< of the inputs
  matrix<float> root;              ///< (n,n)
  matrix<float> target;            ///< (n,m)

  layer_problem(matrix<float> w, matrix<float> tokens) : weight(std::move(w)), x(std::move(tokens)) {
    const Eigen::MatrixXd wide = as_eigen(x).cast<double>();
    const Eigen::MatrixXd h = wide.transpose() * wide / static_cast<double>(x.rows());
    covariance = matrix<double>(h.rows(), h.cols());
    Eigen::Map<Eigen::MatrixXd>(covariance.data(), h.rows(), h.cols()) = h;
    for (index_t j = 0; j < h.cols(); ++j) mean_squares.push_back(static_cast<float>(h(j, j)));
    const rows_of_floats factor = Eigen::MatrixXd(Eigen::LLT<Eigen::MatrixXd>(h).matrixU()).cast<float>();
    root = from_eigen(factor);
    target = from_eigen(factor * as_eigen(weight).transpose());
  }
  [[nodiscard]] double error_of(const matrix<float>& estimate) const {
    const rows_of_floats difference = as_eigen(x) * (as_eigen(weight) - as_eigen(estimate)).transpose();
    return static_cast<double>(difference.norm() / (as_eigen(x) * as_eigen(weight).transpose()).norm());
  }
};

const layer_problem& problem() {
  static const layer_problem made = [] {
    if (given().inputs.empty())
      return layer_problem(make_matrix(matrix_kind::weight_like, 384, 512), make_tokens(1024, 512));
    const io::safetensors_file file(given().inputs);
    return layer_problem(file.read_matrix("W"), file.read_matrix("X"));
  }();
  return made;
}

/// One row of the table.
struct grid_axis {
  int bits;
  index_t group_size;
};

any_quantizer quantizer_of(const grid_axis& grid, bool searches_scales) {
  return make_quantizer(sentence("uint", grid.bits),
                        {.group_size = grid.group_size,
                         .scales = scale_format{scale_coding::plain, scale_type::fp32},
                         .scale_search = searches_scales});
}

decomposition split(std::string_view method, const any_quantizer& quantizer, index_t of_rank,
                    const executor& run) {
  decompose_options options;
  options.rank = of_rank;
  options.steps = find_preset(method).steps;
  const metric weights = make_covariance_metric(matrix<double>(problem().covariance), {.damping = 0}, run);
  return decompose(problem().weight.view(), quantizer, options, weights, run).best;
}

quantized_matrix searched_start(const grid_axis& grid, const executor& run) {
  quantize_hints hints;
  hints.column_weights = problem().mean_squares.data();
  return quantizer_of(grid, true).quantize(problem().weight.view(), hints, run);
}

/// What a method found: the whole weight, and bytes of what is stored.
struct found_weight {
  matrix<float> weight;
  index_t bytes;
};

found_weight plain(const quantized_matrix& q) {
  return {dequantize(q), q.layout().storage_bytes()};
}

template <class Layer>
found_weight fitted(Layer layer, double rate, const executor& run) {
  reconstruct_options options;
  options.rate = {.highest = rate, .num_steps = given().num_steps, .decay = rate_decay::cosine};
  reconstruct_output(layer, problem().root.view(), problem().target.view(), options, run);
  return plain(layer.to_quantized());
}

lr_qat_options shifts(frozen_storage start) {
  return {
      .rank = rank, .alpha = static_cast<double>(rank), .start = start, .scale_learning_rate_factor = 0.1};
}

found_weight run_method(std::string_view method, const grid_axis& grid, const executor& run) {
  const matrix_view<const float> weight = problem().weight.view();
  const auto qat = [&](frozen_storage start) {
    return fitted(lr_qat_layer<float>(weight, searched_start(grid, run), shifts(start)), 1e-2, run);
  };
  if (method == "nearest") return plain(quantizer_of(grid, false).quantize(weight, {}, run));
  if (method == "nearest_search") return plain(searched_start(grid, run));
  if (method == "gptq") return plain(split("gptq", quantizer_of(grid, false), 0, run).quantized);
  if (method == "gptq_search") return plain(split("gptq", quantizer_of(grid, true), 0, run).quantized);
  if (method == "lrq_search")
    return fitted(lrq_layer<float>(weight, searched_start(grid, run), {.rank = rank}), 1e-2, run);
  if (method == "lr_qat_fp32_search") return qat(frozen_storage::fp32);
  if (method == "lr_qat_bf16_search") return qat(frozen_storage::bf16);
  if (method == "lr_qat_fixed8_search") return qat(frozen_storage::fixed8);
  if (method == "lr_qat_after_gptq_search") {
    const quantized_matrix start = split("gptq", quantizer_of(grid, true), 0, run).quantized;
    return fitted(lr_qat_layer<float>(dequantize(start).view(), start, shifts(frozen_storage::fixed8)), 3e-4,
                  run);
  }
  const index_t of_rank = method == "best_rank16" ? 16 : 0;
  const decomposition parts = split("best", quantizer_of(grid, false), of_rank, run);
  return {reconstruct(parts),
          parts.quantized.layout().storage_bytes() + 2 * of_rank * (weight.rows() + weight.cols())};
}

constexpr std::string_view all_methods[] = {"nearest",
                                            "nearest_search",
                                            "gptq",
                                            "gptq_search",
                                            "lrq_search",
                                            "lr_qat_fp32_search",
                                            "lr_qat_bf16_search",
                                            "lr_qat_fixed8_search",
                                            "lr_qat_after_gptq_search",
                                            "best_rank0",
                                            "best_rank16"};

void measure(benchmark::State& state, std::string_view method, const grid_axis& grid) {
  static std::map<std::pair<int, index_t>, std::map<std::string_view, double>> errors;
  thread_pool pool;
  std::map<std::string_view, double>& of_grid = errors[{grid.bits, grid.group_size}];
  for ([[maybe_unused]] auto iteration : state) {
    const auto call = time_once([&] { return run_method(method, grid, pool); });
    state.SetIterationTime(call.seconds);
    const double error = problem().error_of(call.result.weight);
    of_grid[method] = error;
    if (of_grid.contains("nearest") && !(error <= of_grid["nearest"])) {
      state.SkipWithError(sentence("the error is ", error, ", of rounding ", of_grid["nearest"]).c_str());
      break;
    }
    const matrix<float>& w = problem().weight;
    state.counters["error_rel"] = error;
    state.counters["bits_per_weight"] =
        8.0 * static_cast<double>(call.result.bytes) / static_cast<double>(w.size());
    state.counters["cpu_s"] = call.cpu_seconds;
    if (of_grid.contains("gptq")) state.counters["over_gptq"] = error / of_grid["gptq"];
  }
}

/// Takes the program's own arguments out; false where one is wrong.
bool take_arguments(int& argc, char** argv) {
  int kept = 0;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--inputs=", 0) == 0) {
      given().inputs = argument.substr(9);
    } else if (argument.rfind("--steps=", 0) == 0) {
      given().num_steps = std::atol(argument.c_str() + 8);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return given().num_steps > 0;
}

} // namespace

int main(int argc, char** argv) {
  if (!take_arguments(argc, argv)) {
    std::fprintf(stderr, "--steps=N needs a positive number\n");
    return 1;
  }
  for (const int bits : {2, 3, 4}) {
    for (const index_t group_size : {group_per_row, index_t{64}}) {
      for (const std::string_view method : all_methods) { // rounding and GPTQ first
        const std::string name =
            sentence("learned_rounding/Method:", method, "/Bits:", bits, "/GroupSize:", group_size);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=](benchmark::State& state) {
                                       measure(state, method, {bits, group_size});
                                     })
            ->UseManualTime()
            ->Iterations(1)
            ->Unit(benchmark::kSecond);
      }
    }
  }
  return run_program(argc, argv);
}
