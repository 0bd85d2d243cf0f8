// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/parallel.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/gguf_names.hpp>
#include <qlr/io/detail/shape.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/imatrix.hpp>
#include <qlr/io/npy.hpp>
#include <qlr/io/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

namespace detail {

/// A 2-D tensor in double: exact where it is stored as F64.
[[nodiscard]] inline matrix<double> read_double_matrix(const safetensors_file& file, std::string_view name) {
  const tensor_info& tensor = file.find(name);
  if (tensor.type != dtype::f64 || tensor.shape.size() != 2) {
    const matrix<float> values = file.read_matrix(name);
    matrix<double> result(values.rows(), values.cols());
    std::copy_n(values.data(), values.size(), result.data());
    return result;
  }
  matrix<double> result(tensor.shape[0], tensor.shape[1]);
  const std::span<const std::byte> bytes = file.bytes(name);
  for (index_t i = 0; i < result.size(); ++i) {
    result.data()[i] = load_element<double>(bytes.data() + i * static_cast<index_t>(sizeof(double)));
  }
  return result;
}

/// One number for each of `cols` inputs, stored as (n) or (1,n).
[[nodiscard]] inline std::vector<float> read_input_vector(const safetensors_file& file, std::string_view name,
                                                          index_t cols, std::string_view where) {
  const matrix<float> values = file.read_matrix(name);
  if (values.size() == 0) return {};
  require(values.rows() == 1 && values.cols() == cols, status_code::shape_mismatch, where, name,
          " has shape ", shape_text(file.find(name).shape), ", the weight matrix has ", cols,
          " columns: it must be [", cols, ']');
  return {values.data(), values.data() + values.size()};
}

[[nodiscard]] inline calibration_data read_calibration_tensors(const safetensors_file& file, index_t cols,
                                                               std::string_view where) {
  calibration_data data;
  if (file.contains("X")) data.activations = file.read_matrix("X");
  if (file.contains("covariance")) data.covariance = read_double_matrix(file, "covariance");
  if (file.contains("abs_mean")) data.mean_abs = read_input_vector(file, "abs_mean", cols, where);
  if (file.contains("rms")) data.rms = read_input_vector(file, "rms", cols, where);
  if (file.contains("fisher")) data.fisher = file.read_matrix("fisher");
  require(!data.is_empty(), status_code::invalid_argument, where,
          "it has no elements of X, abs_mean, rms, covariance, fisher");
  return data;
}

/// Mean squares of each input (n) over all tokens of all experts; an entry of the older form holds the
/// experts of a tensor one after the other, with one count for all.
[[nodiscard]] inline std::vector<double> combine_experts(const imatrix_entry& entry, index_t cols) {
  const bool is_split = entry.mean_squares.cols() == cols;
  const index_t experts = entry.mean_squares.size() / cols;
  std::vector<double> means(static_cast<std::size_t>(cols));
  double total = 0;
  for (index_t i = 0; i < experts; ++i) {
    const double count = entry.counts[static_cast<std::size_t>(is_split ? i : 0)];
    total += count;
    for (index_t j = 0; j < cols; ++j) {
      means[static_cast<std::size_t>(j)] +=
          count * static_cast<double>(entry.mean_squares.data()[i * cols + j]);
    }
  }
  for (double& mean : means) mean /= total;
  return means;
}

/// The reason why a tensor has no usable entry.
[[nodiscard]] inline std::string missing_reason(const importance_matrices& file, std::string_view tensor_name,
                                                std::string_view gguf_name) {
  for (const imatrix_unusable& unusable : file.unusable) {
    if (unusable.name != tensor_name && unusable.name != gguf_name) continue;
    return sentence("entry ", quote(unusable.name), " is not usable: ", unusable.reason);
  }
  return sentence("it has no entry ", quote(tensor_name), " among ",
                  file.entries.size() + file.unusable.size());
}

[[nodiscard]] inline calibration_data find_calibration(const importance_matrices& file, index_t cols,
                                                       std::string_view tensor_name, std::string_view where) {
  calibration_data data;
  const std::string gguf_name = gguf_name_of(tensor_name);
  const auto is_listed = [&](std::string_view name) {
    return std::ranges::find(file.unusable, name, &imatrix_unusable::name) != file.unusable.end();
  };
  const imatrix_entry* entry = file.find(tensor_name);
  if (entry == nullptr && !is_listed(tensor_name)) entry = file.find(gguf_name);
  if (entry == nullptr) {
    data.notes.push_back(
        sentence(where, missing_reason(file, tensor_name, gguf_name), ": errors fall back to unweighted"));
    return data;
  }
  const bool is_stacked =
      entry->mean_squares.rows() == 1 && cols > 0 && entry->mean_squares.cols() % cols == 0;
  require(entry->mean_squares.cols() == cols || is_stacked, status_code::shape_mismatch, where, "entry ",
          quote(entry->name), " has ", entry->mean_squares.cols(), " values, the weight matrix has ", cols,
          " columns");
  const std::vector<double> means = combine_experts(*entry, cols);
  for (const double mean : means) data.rms.push_back(static_cast<float>(std::sqrt(mean)));
  const index_t experts = entry->mean_squares.size() / cols;
  if (experts > 1) {
    data.notes.push_back(sentence(where, "entry ", quote(entry->name), " holds ", experts,
                                  " experts: their mean over all tokens is used"));
  }
  for (const imatrix_unusable& unusable : file.unusable) {
    if (unusable.name != entry->name) continue;
    data.notes.push_back(sentence(where, "entry ", quote(entry->name), ": ", unusable.reason,
                                  ", it does not count in the mean"));
  }
  return data;
}

[[nodiscard]] inline calibration_data read_calibration(const std::string& path, index_t cols,
                                                       std::string_view tensor_name, std::string_view where) {
  const std::string_view name = path;
  if (name.ends_with(".npy")) {
    calibration_data data;
    data.activations = io::read_npy(path);
    require(!data.is_empty(), status_code::invalid_argument, where, "it has no elements, X needs a token");
    return data;
  }
  if (name.ends_with(".safetensors")) return read_calibration_tensors(safetensors_file(path), cols, where);
  const bool is_imatrix = name.ends_with(".dat") || name.ends_with(".gguf") || name.ends_with(".imatrix");
  require(is_imatrix, status_code::invalid_argument, "calibration file is ", quote(path),
          ", allowed are names ending in .npy, .safetensors, .gguf, .dat and .imatrix");
  return find_calibration(read_imatrix(path), cols, tensor_name, where);
}

} // namespace detail

/// Reads and checks the calibration of one weight matrix W (m,n).
///
/// .npy: X (t,n). .safetensors: any of X (t,n), abs_mean (n), rms (n), covariance (n,n), fisher (m,n). .gguf,
/// .dat, .imatrix: an importance matrix of llama.cpp; its entry `tensor_name`, or the one that such a file
/// usually has for that name in a checkpoint, gives rms. Where it is missing or unusable everything is empty
/// and a note says so. host::complete derives the statistics that the file leaves out.
/// @param rows         m, rows of the weight matrix
/// @param cols         n, its columns
/// @param tensor_name  name of the weight matrix; only importance matrices have more than one
/// @throws qlr::error io_failure, malformed_file, unsupported: as the readers of these files
/// @throws qlr::error shape_mismatch, non_finite, invalid_argument: as check_calibration
/// @throws qlr::error invalid_argument: another ending of the name, or none of the tensors above
[[nodiscard]] inline calibration_data load_calibration(const std::string& path, index_t rows, index_t cols,
                                                       std::string_view tensor_name,
                                                       const executor& run = {}) {
  const std::string where = sentence("calibration file ", detail::quote(path), ": ");
  calibration_data data = detail::read_calibration(path, cols, tensor_name, where);
  check_calibration(data, rows, cols, where, run);
  return data;
}

} // namespace qlr::io
