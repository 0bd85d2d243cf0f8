// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <decompose_matrix/arguments.hpp>

#include <qlr/core/matrix.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/io/safetensors.hpp>

#include <optional>
#include <string>

/// The weight matrix and whatever keeps its memory alive.
struct weight_source {
  std::optional<qlr::io::safetensors_file> file;
  qlr::matrix<float> copy;
  qlr::matrix_view<const float> weight; ///< (m,n), into the mapped file where that is possible
  std::string tensor;
};

/// Prints name, element type and shape of every tensor of the input.
void list_tensors(const std::string& input);

/// Opens the input and finds the tensor, or makes the built-in matrix.
///
/// @throws qlr::error as the readers; invalid_argument: unknown tensor or file type, or no 2-D tensor in the
/// file
[[nodiscard]] weight_source open_weight(const arguments& args);

/// What was calibrated; parts that the file does not have are empty.
struct calibration {
  qlr::matrix<float> activations; ///< X (t,n)
  qlr::matrix<float> covariance;  ///< (n,n)
  qlr::matrix<float> fisher;      ///< (m,n)
  qlr::matrix<float> importance;  ///< (1,n): mean squares of the inputs, from rms, abs_mean or X
};

/// @throws qlr::error invalid_argument: nothing usable in the file, negative rms, abs_mean or fisher
/// @throws qlr::error shape_mismatch: not for a matrix of that shape
/// @throws qlr::error non_finite: NaN or infinity, with its index
[[nodiscard]] calibration open_calibration(const std::string& path, qlr::index_t rows, qlr::index_t cols);

/// The metric that the arguments ask for, or that the method takes from the calibration.
///
/// @throws qlr::error invalid_argument: --metric asks for what the calibration does not have
[[nodiscard]] qlr::metric choose_metric(const arguments& args, const calibration& data, qlr::index_t rows,
                                        qlr::index_t cols);

/// Relative output error, from X or from the covariance; empty without either.
[[nodiscard]] std::optional<double> output_error(qlr::matrix_view<const float> weight,
                                                 qlr::matrix_view<const float> approximate,
                                                 const calibration& data);
