// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/text.hpp>
#include <decompose_matrix/input.hpp>

#include <qlr/core/random.hpp>
#include <qlr/decompose/presets.hpp>
#include <qlr/host/calibration.hpp>
#include <qlr/io/calibration.hpp>
#include <qlr/io/npy.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

using qlr::index_t;

bool ends_with(const std::string& text, const std::string& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

bool is_npy(const std::string& path) {
  if (ends_with(path, ".npy")) return true;
  qlr::require(ends_with(path, ".safetensors"), qlr::status_code::invalid_argument, "file is '", path,
               "', allowed are names ending in .safetensors or .npy");
  return false;
}

/// Rows of different scale, heavy tails, a few strong input channels and a hidden low-rank part, as in
/// trained layers.
qlr::matrix<float> make_builtin(std::uint64_t seed) {
  constexpr index_t size = 1024;
  constexpr index_t hidden_rank = 24;
  const auto normal = [seed](std::uint64_t stream, index_t index) {
    return qlr::normal_at(seed * 8 + stream, index);
  };
  qlr::matrix<float> weight(size, size);
  std::vector<double> left(size * hidden_rank); // hidden L (size,hidden_rank) and R (hidden_rank,size)
  std::vector<double> right(hidden_rank * size);
  for (index_t i = 0; i < size * hidden_rank; ++i) {
    left[static_cast<std::size_t>(i)] =
        std::pow(0.85, static_cast<double>(i % hidden_rank)) * 0.5 * normal(3, i);
    right[static_cast<std::size_t>(i)] = normal(4, i);
  }
  for (index_t i = 0; i < size; ++i) {
    const double row_scale = 0.02 * std::exp(0.3 * normal(0, i));
    for (index_t j = 0; j < size; ++j) {
      const index_t at = i * size + j;
      double value = normal(1, at) * std::exp(0.4 * normal(2, at)); // kurtosis of about 10
      if (j % 128 == 37) value *= 6.0;
      for (index_t k = 0; k < hidden_rank; ++k) {
        value += left[static_cast<std::size_t>(i * hidden_rank + k)] *
                 right[static_cast<std::size_t>(k * size + j)];
      }
      weight(i, j) = static_cast<float>(row_scale * value);
    }
  }
  return weight;
}

void print_line(const std::string& name, const std::string& dtype, const std::vector<index_t>& shape) {
  std::string text;
  for (const index_t extent : shape) text += qlr::sentence(text.empty() ? "" : ", ", extent);
  std::printf("%-40s  %-8s  [%s]\n", printable(name).c_str(), printable(dtype).c_str(), text.c_str());
}

std::string largest_matrix(const qlr::io::safetensors_file& file, const std::string& path) {
  const qlr::io::tensor_info* largest = nullptr;
  for (const qlr::io::tensor_info& tensor : file.tensors()) {
    if (tensor.shape.size() != 2) continue;
    if (largest == nullptr || tensor.shape[0] * tensor.shape[1] > largest->shape[0] * largest->shape[1]) {
      largest = &tensor;
    }
  }
  qlr::require(largest != nullptr, qlr::status_code::invalid_argument, path,
               " has no 2-D tensor; choose one with --tensor, its trailing dimensions are then merged");
  return largest->name;
}

} // namespace

void list_tensors(const std::string& input) {
  qlr::require(!input.empty(), qlr::status_code::invalid_argument, "--list needs an INPUT file");
  if (is_npy(input)) {
    const qlr::io::npy_info array = qlr::io::read_npy_info(input);
    print_line(input, array.descr, array.shape);
    return;
  }
  const qlr::io::safetensors_file file(input);
  for (const qlr::io::tensor_info& tensor : file.tensors()) {
    print_line(tensor.name, tensor.dtype_text, tensor.shape);
  }
}

weight_source open_weight(const arguments& args) {
  weight_source source;
  if (args.input.empty()) {
    source.tensor = "built-in";
    source.copy = make_builtin(args.seed);
  } else if (is_npy(args.input)) {
    qlr::require(args.tensor.empty(), qlr::status_code::invalid_argument, "--tensor is '", args.tensor,
                 "', a .npy file has only one array");
    source.copy = qlr::io::read_npy(args.input);
  } else {
    const auto merge = qlr::io::flatten::trailing_dimensions;
    source.file.emplace(args.input);
    source.tensor = args.tensor.empty() ? largest_matrix(*source.file, args.input) : args.tensor;
    if (source.file->has_f32_view(source.tensor, merge)) {
      source.weight = source.file->f32_view(source.tensor, merge);
      return source;
    }
    source.copy = source.file->read_matrix(source.tensor, merge);
  }
  source.weight = source.copy.view();
  return source;
}

qlr::calibration_data open_calibration(const arguments& args, const weight_source& source,
                                       const qlr::executor& run) {
  if (args.calibration.empty()) return {};
  const index_t rows = source.weight.rows();
  const index_t cols = source.weight.cols();
  qlr::calibration_data data = qlr::io::load_calibration(args.calibration, rows, cols, source.tensor, run);
  qlr::host::complete(data, run);
  return data;
}

named_metric choose_metric(const arguments& args, const qlr::calibration_data& data,
                           const weight_source& source, const qlr::executor& run) {
  qlr::preset method = qlr::find_preset(args.method);
  if (args.damping) method.damping = *args.damping;
  return make_named_metric(method, data, args.metric, source.weight.rows(), source.weight.cols(), run);
}
