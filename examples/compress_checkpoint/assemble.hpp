// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/journal.hpp>
#include <compress_checkpoint/processes.hpp>
#include <compress_checkpoint/selection.hpp>

/// Joins the parts of all tensors to the files of the output; each process writes those that are its own.
///
/// Every file is made in the work folder and appears under its name complete. Files that do not hold weights,
/// such as config.json and the tokenizer, are copied; config.json says how the weights are stored.
/// @throws qlr::error io_failure: a file cannot be written; finished ones stay
void assemble(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
              const journal& work, const processes& all);
