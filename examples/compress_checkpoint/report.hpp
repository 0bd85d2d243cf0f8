// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/journal.hpp>
#include <compress_checkpoint/selection.hpp>

/// What is the same in every run that may continue this one: options, and sizes and beginnings of the input.
[[nodiscard]] ordered_json settings_of(const qlr::io::checkpoint_folder& input, const arguments& args);

/// The report on all tensors, from the notes of the journal.
///
/// @param seconds       of this run
/// @param output_bytes  of all files written
[[nodiscard]] ordered_json make_report(const qlr::io::checkpoint_folder& input, const selection& chosen,
                                       const arguments& args, const journal& work, int num_processes,
                                       int num_threads, double seconds, qlr::index_t output_bytes);

/// Prints what becomes of every tensor.
void print_selection(const selection& chosen);

void print_summary(const ordered_json& report);
