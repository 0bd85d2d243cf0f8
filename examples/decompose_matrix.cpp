// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Splits a weight matrix of a .safetensors or .npy file into a quantized and a low-rank part; --help tells
// the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <common/progress.hpp>
#include <decompose_matrix/arguments.hpp>
#include <decompose_matrix/gpu.hpp>
#include <decompose_matrix/input.hpp>
#include <decompose_matrix/report.hpp>

#include <qlr/qlr.hpp>

#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

void write_dense(const std::string& path, const qlr::decomposition& parts,
                 const qlr::matrix<float>& quantized, const qlr::matrix<float>& sum) {
  const std::vector<qlr::io::tensor_entry> tensors{
      qlr::io::make_f32_entry("Q", quantized.view()), qlr::io::make_f32_entry("L", parts.left.view()),
      qlr::io::make_f32_entry("R", parts.right.view()), qlr::io::make_f32_entry("W_hat", sum.view())};
  qlr::io::write_safetensors(path, tensors);
}

/// The error that a Fisher matrix weights, whether or not the method used it; else the error in the metric.
double weighted_error(const qlr::decompose_result& result, qlr::matrix_view<const float> weight,
                      const qlr::matrix<float>& sum, const qlr::calibration_data& data) {
  if (data.fisher.size() == 0) return result.weighted_error;
  double error = 0;
  double norm = 0;
  for (qlr::index_t i = 0; i < weight.rows(); ++i) {
    for (qlr::index_t j = 0; j < weight.cols(); ++j) {
      const auto f = static_cast<double>(data.fisher(i, j));
      const auto w = static_cast<double>(weight(i, j));
      const double difference = w - static_cast<double>(sum(i, j));
      error += f * difference * difference;
      norm += f * w * w;
    }
  }
  return norm > 0 ? std::sqrt(error / norm) : 0.0;
}

/// What only a calibration gives a meaning.
void set_calibrated_options(const arguments& args, const qlr::calibration_data& data,
                            qlr::decompose_options& options) {
  if (args.feedback) options.steps.step = qlr::quantize_step::feedback;
  if (args.polish) options.steps.polish_rounds = *args.polish;
  options.smoothing.largest = data.largest;
  options.smoothing.activation_bits = args.activation_bits;
  options.smoothing.activations = data.activations.view();
}

/// --form and --given.
std::optional<qlr::decomposition> open_given(const arguments& args, qlr::decompose_options& options) {
  std::optional<qlr::decomposition> given;
  if (args.form == "fixed_q") options.form = qlr::decomposition_form::fixed_q;
  if (args.given.empty()) return given;
  given = qlr::io::load(args.given);
  qlr::require(given->input_scales.empty(), qlr::status_code::unsupported, "--given is '", args.given,
               "', its Q is of smoothed inputs (svdquant); allowed are decompositions without input scales");
  return given;
}

void run(const arguments& args) {
  if (args.list) return list_tensors(args.input);
  const qlr::any_quantizer quantizer = qlr::make_quantizer(args.quantizer, args.format);
  const weight_source source = open_weight(args);
  const qlr::matrix_view<const float> weight = source.weight;
  qlr::thread_pool pool(args.threads);
  const qlr::executor threads(pool);
  const qlr::calibration_data data = open_calibration(args, source, threads);
  check_outputs({args.output, args.reconstruct, args.json == "-" ? "" : args.json});
  qlr::decompose_options options = make_options(args);
  set_calibrated_options(args, data, options);
  const std::optional<qlr::decomposition> given = open_given(args, options);
  if (given) options.given = &given->quantized;
  qlr::validate(weight, quantizer, {}, options, threads);

  const auto start = clock_type::now();
  const auto [kind, metric] = choose_metric(args, data, source, threads);
  qlr::validate(weight, quantizer, metric, options, threads);
  if (!args.quiet) print_header(args, source, kind, data.notes);
  qlr::decompose_result result;
  {
    progress shown(!args.quiet, "iteration");
    options.on_iteration = [&](const qlr::iteration_report& iteration) {
      shown.set_step(iteration.iteration);
      if (!args.quiet) print_iteration(iteration);
    };
    result = args.device == "cpu" ? decompose_weight(weight, quantizer, options, metric, threads)
                                  : decompose_on_gpu(weight, quantizer, options, metric);
  }
  const double seconds = std::chrono::duration<double>(clock_type::now() - start).count();

  const qlr::matrix<float> sum = qlr::reconstruct(result.best, threads);
  const qlr::matrix<float> quantized = qlr::dequantize(result.best.quantized, threads);
  report summary{args, source, result};
  summary.svd_routine = args.svd == "exact" ? qlr::host::exact_svd_name() : "randomized";
  summary.simd = Eigen::SimdInstructionSetsInUse();
  summary.threads = pool.num_threads();
  summary.relative_error = qlr::compare(weight, sum.view()).relative_error;
  summary.relative_error_quantized_only = qlr::compare(weight, quantized.view()).relative_error;
  summary.weighted_error = weighted_error(result, weight, sum, data);
  summary.relative_output_error = relative_output_error(weight, sum.view(), data, threads);
  summary.metric = kind;
  summary.covariance = metric.covariance.get();
  summary.notes = data.notes;
  summary.seconds_total = seconds;
  if (!args.output.empty()) qlr::io::save(args.output, result.best);
  if (!args.reconstruct.empty()) write_dense(args.reconstruct, result.best, quantized, sum);
  if (!args.quiet) print_summary(summary);
  if (!args.json.empty()) write_text(args.json, to_json(summary));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("decompose_matrix", [&] { run(parse_arguments(argc, argv)); });
}
