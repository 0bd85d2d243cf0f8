// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/text.hpp>
#include <decompose_matrix/input.hpp>

#include <qlr/core/error_metrics.hpp>
#include <qlr/core/random.hpp>
#include <qlr/decompose/presets.hpp>
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

void require_cols(const qlr::matrix<float>& part, const char* name, index_t cols) {
  qlr::require(part.cols() == cols, qlr::status_code::shape_mismatch, "calibration ", name, " has ",
               part.cols(), " columns, the weight matrix has ", cols);
}

qlr::matrix<float> mean_squares(const qlr::matrix<float>& activations) {
  qlr::matrix<float> means(1, activations.cols());
  for (index_t j = 0; j < activations.cols(); ++j) {
    double sum = 0;
    for (index_t t = 0; t < activations.rows(); ++t)
      sum += std::pow(static_cast<double>(activations(t, j)), 2);
    means(0, j) = static_cast<float>(sum / static_cast<double>(activations.rows()));
  }
  return means;
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

calibration open_calibration(const std::string& path, index_t rows, index_t cols) {
  calibration data;
  if (path.empty()) return data;
  qlr::matrix<float> rms;
  if (is_npy(path)) {
    data.activations = qlr::io::read_npy(path);
  } else {
    const qlr::io::safetensors_file file(path);
    const auto read = [&](const char* name) {
      return file.contains(name) ? file.read_matrix(name) : qlr::matrix<float>();
    };
    data.activations = read("X");
    data.covariance = read("covariance");
    data.fisher = read("fisher");
    rms = file.contains("rms") ? read("rms") : read("abs_mean");
  }
  const qlr::matrix<float>* parts[] = {&data.activations, &data.covariance, &data.fisher, &rms};
  const char* names[] = {"X", "covariance", "fisher", "rms or abs_mean"};
  bool is_usable = false;
  for (std::size_t i = 0; i < 4; ++i) {
    if (parts[i]->size() == 0) continue;
    is_usable = true;
    if (i != 2) require_cols(*parts[i], names[i], cols);
    qlr::require_finite(parts[i]->view(), names[i]);
  }
  // Checked whether or not the method uses it: the report weights its error with it.
  if (data.fisher.size() != 0) (void)qlr::make_fisher_metric(data.fisher.view(), rows, cols);
  qlr::require(is_usable, qlr::status_code::invalid_argument, "calibration file ", path,
               " has no elements of X, abs_mean, rms, covariance, fisher");
  qlr::require(data.covariance.size() == 0 || data.covariance.rows() == cols,
               qlr::status_code::shape_mismatch, "calibration covariance is ", data.covariance.rows(), " x ",
               data.covariance.cols(), ", it must be ", cols, " x ", cols);
  if (rms.size() != 0) {
    qlr::require(rms.rows() == 1, qlr::status_code::shape_mismatch, "calibration rms or abs_mean is ",
                 rms.rows(), " x ", rms.cols(), ", it must have one row");
    for (index_t j = 0; j < rms.size(); ++j) {
      qlr::require(rms.data()[j] >= 0, qlr::status_code::invalid_argument, "calibration rms or abs_mean[", j,
                   "] is ", rms.data()[j], ", it must be >= 0");
    }
    for (index_t j = 0; j < rms.size(); ++j) rms.data()[j] *= rms.data()[j];
    data.importance = std::move(rms);
  } else if (data.activations.size() != 0) {
    data.importance = mean_squares(data.activations);
  }
  return data;
}

qlr::metric choose_metric(const arguments& args, const calibration& data, index_t rows, index_t cols) {
  const bool has_fisher = data.fisher.size() != 0;
  const std::string wanted = !args.metric.empty()                                      ? args.metric
                             : has_fisher && qlr::find_preset(args.method).uses == qlr::calibration_use::fisher ? "fisher"
                                                                                       : "none";
  if (wanted == "none") return {};
  if (wanted == "fisher") {
    qlr::require(has_fisher, qlr::status_code::invalid_argument,
                 "metric is 'fisher', the calibration has no tensor of that name");
    return qlr::make_fisher_metric(data.fisher.view(), rows, cols);
  }
  qlr::require(data.importance.size() != 0, qlr::status_code::invalid_argument,
               "metric is 'diagonal', the calibration has none of X, rms and abs_mean");
  return qlr::make_metric({}, {data.importance.data(), data.importance.data() + cols}, rows, cols);
}

std::optional<double> output_error(qlr::matrix_view<const float> weight,
                                   qlr::matrix_view<const float> approximate, const calibration& data) {
  if (data.activations.size() != 0) {
    return qlr::relative_output_error(weight, approximate, data.activations.view());
  }
  if (data.covariance.size() == 0) return std::nullopt;
  // tr(E H E^T) / tr(W H W^T)
  double error = 0;
  double norm = 0;
  const index_t cols = weight.cols();
  for (index_t i = 0; i < weight.rows(); ++i) {
    for (index_t j = 0; j < cols; ++j) {
      double h_error = 0;
      double h_weight = 0;
      for (index_t l = 0; l < cols; ++l) {
        const double h = static_cast<double>(data.covariance(j, l));
        h_error += h * (static_cast<double>(weight(i, l)) - static_cast<double>(approximate(i, l)));
        h_weight += h * static_cast<double>(weight(i, l));
      }
      error += h_error * (static_cast<double>(weight(i, j)) - static_cast<double>(approximate(i, j)));
      norm += h_weight * static_cast<double>(weight(i, j));
    }
  }
  return norm > 0 ? std::sqrt(std::max(0.0, error) / norm) : 0.0;
}
