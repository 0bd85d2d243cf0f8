// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <story/model.hpp>
#include <story/tokenizer.hpp>

#include <qlr/core/parallel.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Sequences of `length` inputs and their targets: the first `length` tokens are read, the last `length` of
/// the length + 1 are to be predicted.
struct texts {
  std::vector<std::vector<token_t>> training;
  std::vector<std::vector<token_t>> held_out; ///< beginnings of other stories than those of `training`
};

/// The same stories twice: a model that wrote the plain ones finds the shifted ones unlikely, and only
/// because of the name.
struct story_texts {
  texts plain;   ///< as the model writes them
  texts shifted; ///< with the name replaced by the new one
};

struct text_options {
  qlr::index_t length = 64; ///< inputs of a sequence
  qlr::index_t num_training = 128;
  qlr::index_t num_held_out = 32;
  std::string name = "Lily";    ///< of letters and digits; what every story mentions
  std::string new_name = "Zog"; ///< likewise; what none mentions
  std::uint64_t seed = 1;
};

/// Lets a model write the beginnings of stories at temperature 1 and keeps those that mention a name early.
///
/// The held-out texts are the same for any number of training texts; with as many held-out texts, fewer
/// training texts are the first of more.
/// @param run  must outlive the call
/// @throws qlr::error invalid_argument: an option is outside what its field says, the sequences do not fit
/// into the model's context, or the model hardly ever writes such stories
/// @determinism same seed and number of texts give the same tokens on any number of threads
[[nodiscard]] story_texts make_texts(const model& writer, const tokenizer& words, const text_options& options,
                                     const qlr::executor& run);

/// The text with a word replaced where it stands alone: neither before nor behind it is an ASCII letter or
/// digit.
///
/// @pre the word is not empty
[[nodiscard]] std::string replace_word(std::string_view text, std::string_view word, std::string_view by);

/// The text of tokens that begin with the begin of text.
[[nodiscard]] std::string decode_all(const tokenizer& words, const std::vector<token_t>& tokens);

/// Indices of the sequences of a step: each epoch takes every sequence once, in an order of its own, and
/// steps divide the epochs, one after the other, without a gap.
///
/// It depends on nothing but its arguments, so training goes on from a step as if it had never stopped.
/// @param step  0 and above
/// @throws qlr::error invalid_argument: a number is out of range
[[nodiscard]] std::vector<qlr::index_t> choose_batch(qlr::index_t num_sequences, qlr::index_t batch_size,
                                                     std::uint64_t seed, qlr::index_t step);
