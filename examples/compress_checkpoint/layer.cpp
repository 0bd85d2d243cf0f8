// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/layer.hpp>

#include <common/decompose_weight.hpp>

#include <qlr/decompose/reconstruct.hpp>
#include <qlr/decompose/validation.hpp>
#include <qlr/host/calibration.hpp>
#include <qlr/io/calibration.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>

namespace {

using qlr::index_t;

/// W in the file's memory, or a copy where the file has another type; its pages are let go at the end.
class weight_matrix {
public:
  weight_matrix(const qlr::io::safetensors_file& file, const std::string& name) : file_(file), name_(name) {
    if (file.has_f32_view(name)) {
      view_ = file.f32_view(name);
      return;
    }
    copy_ = file.read_matrix(name);
    view_ = std::as_const(copy_).view();
    file.release(name);
  }
  weight_matrix(const weight_matrix&) = delete;
  weight_matrix& operator=(const weight_matrix&) = delete;
  ~weight_matrix() { file_.release(name_); }

  [[nodiscard]] qlr::matrix_view<const float> view() const { return view_; }

private:
  const qlr::io::safetensors_file& file_;
  const std::string& name_;
  qlr::matrix<float> copy_;
  qlr::matrix_view<const float> view_;
};

/// The statistics of one tensor; nothing where a folder has no file for it, and a note that says so.
qlr::calibration_data read_statistics(const layer_task& task, const arguments& args,
                                      const qlr::executor& run) {
  namespace fs = std::filesystem;
  qlr::calibration_data data;
  if (args.calibration.empty()) return data;
  std::string path = args.calibration;
  std::error_code status;
  if (fs::is_directory(path, status)) {
    const fs::path stem = fs::path(path) / task.name;
    path.clear();
    for (const char* const ending : {".safetensors", ".npy"}) {
      if (path.empty() && fs::exists(stem.string() + ending, status)) path = stem.string() + ending;
    }
    if (path.empty()) {
      data.notes.push_back(
          qlr::sentence("'", args.calibration, "' has no file for it: errors are unweighted"));
      return data;
    }
  }
  data = qlr::io::load_calibration(path, task.rows, task.cols, task.name, run);
  qlr::host::complete(data, run);
  return data;
}

double squared_norm(qlr::matrix_view<const float> values) {
  double sum = 0;
  for (index_t i = 0; i < values.rows(); ++i) {
    for (index_t j = 0; j < values.cols(); ++j) sum += std::pow(static_cast<double>(values(i, j)), 2);
  }
  return sum;
}

ordered_json output_error(qlr::matrix_view<const float> weight, const qlr::decomposition& parts,
                          const qlr::calibration_data& data, const qlr::executor& run) {
  if (data.activations.size() == 0 && data.covariance.size() == 0) return nullptr;
  const qlr::matrix<float> sum = qlr::reconstruct(parts, run);
  return relative_output_error(weight, sum.view(), data, run).value();
}

qlr::decompose_options options_of(const layer_task& task, const arguments& args,
                                  const qlr::calibration_data& data) {
  qlr::decompose_options options = make_options(args);
  options.rank = task.choice.rank;
  options.factors = task.choice.factors;
  options.smoothing.largest = data.largest;
  options.smoothing.activations = data.activations.view();
  return options;
}

int bits_of(qlr::factor_storage storage) {
  for (const int bits : {32, 16, 8}) {
    if (qlr::factor_storage_of_bits(bits) == storage) return bits;
  }
  return 4;
}

ordered_json describe(const layer_task& task, const qlr::decompose_result& result) {
  const qlr::decomposition& parts = result.best;
  const auto bytes = static_cast<double>(parts.storage_bytes());
  return {{"name", task.name},
          {"rows", task.rows},
          {"cols", task.cols},
          {"quantizer", parts.quantized.format_name()},
          {"group_size", parts.quantized.layout().group_size},
          {"scale", to_string(parts.quantized.layout().scales)},
          {"rank", parts.rank()},
          {"factor_bits", bits_of(parts.factors)},
          {"iterations_run", result.iterations_run},
          {"relative_error", result.relative_error},
          {"weighted_error", result.weighted_error},
          {"bits_per_weight", 8 * bytes / static_cast<double>(task.rows * task.cols)},
          {"bytes", parts.storage_bytes()}};
}

} // namespace

compressed_layer compress_layer(const qlr::io::checkpoint_folder& input, const layer_task& task,
                                const arguments& args, const qlr::executor& run) {
  const auto start = std::chrono::steady_clock::now();
  const weight_matrix stored(input.shard(task.shard_index), task.name);
  const qlr::matrix_view<const float> weight = stored.view();
  const qlr::calibration_data data = read_statistics(task, args, run);
  const qlr::preset& method = qlr::find_preset(args.method);
  const qlr::any_quantizer quantizer = make_quantizer(task.choice);
  const qlr::decompose_options options = options_of(task, args, data);
  qlr::validate(weight, quantizer, {}, options, run);
  const auto [kind, metric] = make_named_metric(method, data, "", task.rows, task.cols, run);
  qlr::decompose_result result = decompose_weight(weight, quantizer, options, metric, run);
  ordered_json report = describe(task, result);
  report["metric"] = kind;
  report["relative_output_error"] = output_error(weight, result.best, data, run);
  report["energy"] = squared_norm(weight);
  report["singular_values"] = args.spectrum > 0
                                  ? leading_singular_values(weight, args.spectrum, args.seed, run)
                                  : singular_values_of_product(result.best, run);
  report["notes"] = data.notes;
  report["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {std::move(result.best), std::move(report)};
}

void check_calibration_path(const arguments& args) {
  namespace fs = std::filesystem;
  if (args.calibration.empty()) return;
  std::error_code status;
  const std::string ending = fs::path(args.calibration).extension().string();
  const bool is_matrix_file = ending == ".gguf" || ending == ".dat" || ending == ".imatrix";
  const bool is_allowed = fs::is_directory(args.calibration, status) ||
                          (is_matrix_file && fs::is_regular_file(args.calibration, status));
  qlr::require(is_allowed, qlr::status_code::invalid_argument, "calibration is '", args.calibration,
               "', allowed are folders and importance matrices: files named .gguf, .dat or .imatrix");
}

double estimated_cost(const layer_task& task) {
  // Products with rank + 8 vectors and passes over W that cost about as much as 24 of them.
  return static_cast<double>(task.rows) * static_cast<double>(task.cols) *
         static_cast<double>(task.choice.rank + 32);
}
