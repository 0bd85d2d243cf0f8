// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/texts.hpp>
#include <finetune_story/training.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// What the command line says.
struct arguments {
  std::string model;
  std::string tokenizer;
  std::vector<std::string> methods; ///< names of training_methods
  std::vector<int> bits{2, 3, 4};
  int num_seeds = 3;
  std::string task = "shifted"; ///< or plain
  bool from_scratch = false;
  text_options texts{.num_training = 800};
  training_options training{};
  qlr::index_t save_interval = 50;
  int threads = 0;
  std::string output; ///< folder of the drawings; empty: none
  std::string state;  ///< folder of the runs' states; empty: none
  std::string json;
  bool quiet = false;
};

/// Parses and checks; prints help and ends the program when asked to.
///
/// @throws qlr::error invalid_argument: an unknown option, or a value that is not allowed
[[nodiscard]] arguments parse_arguments(int argc, char** argv);

/// All runs: every method at every number of bits and with every seed, those without quantization once.
[[nodiscard]] std::vector<run_key> list_runs(const arguments& args);
