// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/arguments.hpp>

#include <qlr/core/parallel.hpp>

#include <vector>

/// One run and how it went.
struct finished_run {
  run_key key;
  training_curve curve;
};

/// Makes the texts and runs everything, one run per thread; a line on the terminal shows how far it is.
///
/// With a folder for states, runs that are found there go on where they were.
/// @throws qlr::error as the parts; errors of a run begin with its name
/// @determinism the same losses on any number of threads, also when a run was interrupted
[[nodiscard]] std::vector<finished_run> run_experiment(const arguments& args, const qlr::executor& run);
