// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/types.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

using token_t = std::int32_t;

/// Text to tokens and back: byte pair encoding by score, as SentencePiece and llama2.c do it.
class tokenizer {
public:
  static constexpr token_t unknown = 0;
  static constexpr token_t begin_of_text = 1;
  static constexpr token_t end_of_text = 2;

  /// Reads the format of llama2.c: the length of the longest token, then score, length and bytes of each.
  ///
  /// @param num_tokens  what the model has; the file does not say
  /// @throws qlr::error io_failure: the file cannot be read
  /// @throws qlr::error malformed_file: it does not hold exactly that many tokens, a length is outside 0 to
  /// the longest, or a score is not finite
  tokenizer(const std::string& path, qlr::index_t num_tokens);
  tokenizer(const tokenizer&) = delete;
  tokenizer& operator=(const tokenizer&) = delete;

  /// The tokens of a text, the begin of text first.
  ///
  /// @complexity O(n log n) in the bytes of the text
  [[nodiscard]] std::vector<token_t> encode(std::string_view text) const;

  /// The bytes of a token; a space that begins a text is not part of it.
  [[nodiscard]] std::string_view decode(token_t previous, token_t token) const;

  /// Bytes of the longest token.
  [[nodiscard]] qlr::index_t longest_token() const { return longest_; }

private:
  struct entry {
    std::string bytes;
    float score = 0;
  };

  void read(const std::string& path, qlr::index_t num_tokens);
  void index_tokens();
  [[nodiscard]] token_t find(std::string_view bytes) const;
  [[nodiscard]] std::vector<token_t> split(std::string_view text) const;
  void merge(std::vector<token_t>& tokens) const;

  std::vector<entry> entries_;
  std::unordered_map<std::string_view, token_t> token_of_; ///< refers to entries_; without control and bytes
  std::array<token_t, 256> token_of_byte_{};
  std::vector<bool> is_byte_;
  qlr::index_t longest_ = 0;
};
