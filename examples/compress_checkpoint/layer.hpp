// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/journal.hpp>
#include <compress_checkpoint/selection.hpp>

#include <qlr/core/parallel.hpp>
#include <qlr/decompose/result.hpp>

/// A compressed tensor and what the report says of it.
struct compressed_layer {
  qlr::decomposition parts;
  ordered_json report;
};

/// Reads one matrix, decomposes it and lets its pages go.
///
/// @throws qlr::error as load_calibration and decompose
/// @memory what decompose() takes, and W in float unless it is stored so
[[nodiscard]] compressed_layer compress_layer(const qlr::io::checkpoint_folder& input, const layer_task& task,
                                              const arguments& args, const qlr::executor& run);

/// How long a matrix takes, in an arbitrary unit: what the processes share the work by.
[[nodiscard]] double estimated_cost(const layer_task& task);

/// Refuses a --calibration that is neither a folder nor a file of a known kind, before any work.
///
/// @throws qlr::error invalid_argument
void check_calibration_path(const arguments& args);
