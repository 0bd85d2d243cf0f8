// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <story/tokenizer.hpp>

#include <qlr/io/mapped_file.hpp>

#include <charconv>
#include <cstddef>
#include <cstring>
#include <queue>
#include <span>
#include <utility>

namespace {

using qlr::index_t;
using qlr::status_code;

/// Takes numbers and bytes off a file that may end anywhere.
class byte_reader {
public:
  byte_reader(std::span<const std::byte> bytes, std::string path) : bytes_(bytes), path_(std::move(path)) {}

  template <class T>
  T number(const char* what) {
    T value{};
    std::memcpy(&value, take(static_cast<index_t>(sizeof value), what), sizeof value);
    return value;
  }
  std::string text(index_t size, const char* what) {
    return {reinterpret_cast<const char*>(take(size, what)), static_cast<std::size_t>(size)};
  }
  [[nodiscard]] index_t remaining() const { return static_cast<index_t>(bytes_.size()) - position_; }

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    qlr::require(condition, status_code::malformed_file, "tokenizer file '", path_, "': ", parts...);
  }

private:
  const std::byte* take(index_t size, const char* what) {
    check(size <= remaining(), "it ends at byte ", bytes_.size(), " within ", what);
    return bytes_.data() + std::exchange(position_, position_ + size);
  }

  std::span<const std::byte> bytes_;
  std::string path_;
  index_t position_ = 0;
};

/// Bytes of the character that begins with this one, as UTF-8 has it; 1 for what begins none.
std::size_t character_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte >= 0xF0U ? 4 : byte >= 0xE0U ? 3 : byte >= 0xC0U ? 2 : 1;
}

/// The value of a token of the form <0xHH>, or -1.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = -1;
  const auto [end, code] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  return code == std::errc() && end == token.data() + 5 ? value : -1;
}

} // namespace

tokenizer::tokenizer(const std::string& path, index_t num_tokens) {
  read(path, num_tokens);
  index_tokens();
}

void tokenizer::read(const std::string& path, index_t num_tokens) {
  const qlr::io::mapped_file file(path);
  byte_reader reader(file.bytes(), path);
  longest_ = reader.number<std::int32_t>("its first number");
  reader.check(longest_ > 0, "its longest token has ", longest_, " bytes, allowed are 1 and above");
  for (index_t i = 0; i < num_tokens; ++i) {
    entry next;
    next.score = reader.number<float>("a score");
    const auto length = reader.number<std::int32_t>("a length");
    reader.check(qlr::is_finite(next.score), "the score of token ", i, " is not finite");
    reader.check(length >= 0 && length <= longest_, "token ", i, " has ", length, " bytes, allowed are 0 to ",
                 longest_);
    next.bytes = reader.text(length, "a token");
    entries_.push_back(std::move(next));
  }
  reader.check(reader.remaining() == 0, reader.remaining(), " bytes follow the ", num_tokens,
               " tokens of the model");
}

void tokenizer::index_tokens() {
  is_byte_.resize(entries_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const auto token = static_cast<token_t>(i);
    const int byte = byte_of(entries_[i].bytes);
    is_byte_[i] = byte >= 0;
    if (byte >= 0) {
      entries_[i].bytes = static_cast<char>(byte);
      token_of_byte_[static_cast<std::size_t>(byte)] = token;
    } else if (token > end_of_text) {
      token_of_.emplace(entries_[i].bytes, token); // of two equal ones the first
    }
  }
}

token_t tokenizer::find(std::string_view bytes) const {
  const auto found = token_of_.find(bytes);
  return found == token_of_.end() ? -1 : found->second;
}

std::vector<token_t> tokenizer::split(std::string_view text) const {
  std::vector<token_t> tokens;
  while (!text.empty()) {
    const std::string_view character = text.substr(0, character_length(text.front()));
    if (const token_t token = find(character); token >= 0) {
      tokens.push_back(token);
    } else {
      for (const char byte : character) tokens.push_back(token_of_byte_[static_cast<unsigned char>(byte)]);
    }
    text.remove_prefix(character.size());
  }
  return tokens;
}

/// Merges the neighbours whose sum has the highest score, the leftmost of equal ones, until none is a token.
void tokenizer::merge(std::vector<token_t>& tokens) const {
  struct pair {
    float score;
    std::size_t left;
    std::size_t right;
    token_t left_token;
    token_t right_token;
    token_t merged;
    bool operator<(const pair& other) const {
      return score != other.score ? score < other.score : left > other.left;
    }
  };
  constexpr token_t removed = -1;
  const std::size_t end = tokens.size();
  std::vector<std::size_t> next(end);
  std::vector<std::size_t> previous(end, end);
  std::priority_queue<pair> candidates;
  const auto add = [&](std::size_t left, std::size_t right) {
    if (left >= end || right >= end) return;
    const auto bytes = [&](std::size_t i) -> const std::string& {
      return entries_[static_cast<std::size_t>(tokens[i])].bytes;
    };
    const token_t merged = find(bytes(left) + bytes(right));
    if (merged < 0) return;
    candidates.push(
        {entries_[static_cast<std::size_t>(merged)].score, left, right, tokens[left], tokens[right], merged});
  };
  for (std::size_t i = 0; i < end; ++i) {
    next[i] = i + 1;
    if (i > 0) previous[i] = i - 1;
    add(i, i + 1);
  }
  while (!candidates.empty()) {
    const pair best = candidates.top();
    candidates.pop();
    // One of the two was merged with another meanwhile.
    if (tokens[best.left] != best.left_token || tokens[best.right] != best.right_token) continue;
    if (next[best.left] != best.right) continue;
    tokens[best.left] = best.merged;
    tokens[best.right] = removed;
    next[best.left] = next[best.right];
    if (next[best.left] < end) previous[next[best.left]] = best.left;
    add(previous[best.left], best.left);
    add(best.left, next[best.left]);
  }
  std::erase(tokens, removed);
}

std::vector<token_t> tokenizer::encode(std::string_view text) const {
  std::vector<token_t> tokens;
  if (!text.empty()) tokens = split(std::string(" ").append(text)); // as SentencePiece begins a text
  merge(tokens);
  tokens.insert(tokens.begin(), begin_of_text);
  return tokens;
}

std::string_view tokenizer::decode(token_t previous, token_t token) const {
  std::string_view bytes = entries_[static_cast<std::size_t>(token)].bytes;
  if (previous == begin_of_text && bytes.starts_with(' ')) bytes.remove_prefix(1);
  return bytes;
}
