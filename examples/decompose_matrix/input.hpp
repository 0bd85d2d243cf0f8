// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <common/decompose_weight.hpp>
#include <decompose_matrix/arguments.hpp>

#include <qlr/core/matrix.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/decompose/metric.hpp>
#include <qlr/host/method_metric.hpp>
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

/// What the calibration file tells of this matrix; empty without one.
///
/// @throws qlr::error as qlr::io::load_calibration
[[nodiscard]] qlr::calibration_data open_calibration(const arguments& args, const weight_source& source,
                                                     const qlr::executor& run);

/// The metric that the arguments ask for, or that the method takes from the calibration.
///
/// @throws qlr::error invalid_argument: --metric asks for what the calibration does not have
[[nodiscard]] named_metric choose_metric(const arguments& args, const qlr::calibration_data& data,
                                         const weight_source& source, const qlr::executor& run);
