// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/convert.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::io::detail {

/// What the header of an .npy file says.
struct npy_header {
  std::string descr; // element type, such as "<f4"
  bool is_fortran_order = false;
  std::vector<index_t> shape;
};

/// Reads the header: the text of a Python dictionary with exactly the keys descr, fortran_order and shape.
///
/// A grammar of just that, instead of Python's: whatever else a file holds is refused where it stands.
class npy_dictionary_parser {
public:
  /// @param where  start of every message
  npy_dictionary_parser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  [[nodiscard]] npy_header parse() {
    expect('{');
    while (!accept('}')) {
      parse_entry();
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_spaces();
    if (position_ != text_.size()) refuse("spaces until the end of the header");
    check_given(has_descr_, "descr");
    check_given(has_fortran_order_, "fortran_order");
    check_given(has_shape_, "shape");
    return header_;
  }

private:
  void parse_entry() {
    const std::string key = parse_string();
    expect(':');
    if (key == "descr") {
      note_once(has_descr_, key);
      parse_descr();
    } else if (key == "fortran_order") {
      note_once(has_fortran_order_, key);
      parse_bool();
    } else if (key == "shape") {
      note_once(has_shape_, key);
      parse_shape();
    } else {
      fail(status_code::malformed_file, where_, "the header has the key ", quote(key),
           ", allowed are descr, fortran_order and shape");
    }
  }

  void parse_descr() {
    skip_spaces();
    if (peek() == '[' || peek() == '(') {
      fail(status_code::unsupported, where_, "descr is ", quote(text_.substr(position_)),
           ", structured types cannot be read as a matrix");
    }
    header_.descr = parse_string();
  }

  void parse_bool() {
    skip_spaces();
    const std::string_view rest = text_.substr(position_);
    header_.is_fortran_order = rest.starts_with("True");
    if (!header_.is_fortran_order && !rest.starts_with("False")) refuse("True or False");
    position_ += header_.is_fortran_order ? 4 : 5;
  }

  void parse_shape() {
    expect('(');
    bool has_comma = false;
    while (!accept(')')) {
      header_.shape.push_back(parse_extent());
      if (accept(',')) {
        has_comma = true;
        continue;
      }
      if (!has_comma) refuse("',': a tuple of one number ends with a comma");
      expect(')');
      break;
    }
  }

  index_t parse_extent() {
    skip_spaces();
    if (!is_digit(peek())) refuse("an integer >= 0");
    index_t value = 0;
    for (; is_digit(peek()); ++position_) {
      const index_t digit = peek() - '0';
      require(value <= (std::numeric_limits<index_t>::max() - digit) / 10, status_code::malformed_file,
              where_, "shape holds a number above ", std::numeric_limits<index_t>::max());
      value = value * 10 + digit;
    }
    return value;
  }

  /// Without escapes: numpy writes none for the types that are readable.
  std::string parse_string() {
    skip_spaces();
    const char delimiter = peek();
    if (delimiter != '\'' && delimiter != '"') refuse("a string");
    const std::size_t end = text_.find(delimiter, position_ + 1);
    if (end == std::string_view::npos) refuse("a string that ends");
    const std::string value(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return value;
  }

  void note_once(bool& seen, std::string_view key) const {
    require(!seen, status_code::malformed_file, where_, key, " is given twice");
    seen = true;
  }

  void check_given(bool seen, std::string_view key) const {
    require(seen, status_code::malformed_file, where_, "the header has no ", key);
  }

  [[nodiscard]] bool accept(char wanted) {
    skip_spaces();
    if (peek() != wanted) return false;
    ++position_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) refuse(quote({&wanted, 1}));
  }

  void skip_spaces() {
    while (peek() == ' ' || peek() == '\n') ++position_;
  }

  // A zero byte stands for the end; one inside the header fits nowhere in the grammar either.
  [[nodiscard]] char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

  [[nodiscard]] static bool is_digit(char character) { return character >= '0' && character <= '9'; }

  [[noreturn]] void refuse(std::string_view wanted) const {
    const std::string found = position_ < text_.size() ? quote(text_.substr(position_, 20)) : "its end";
    fail(status_code::malformed_file, where_, "the header has ", found, " at its byte ", position_,
         ", expected ", wanted);
  }

  std::string_view text_;
  std::string_view where_;
  std::size_t position_ = 0;
  npy_header header_;
  bool has_descr_ = false;
  bool has_fortran_order_ = false;
  bool has_shape_ = false;
};

/// The parts of an .npy file: the dictionary and what follows it.
struct npy_parts {
  std::string_view dictionary;
  std::span<const std::byte> data;
};

/// Checks magic, version and header length.
[[nodiscard]] inline npy_parts split_npy(std::span<const std::byte> contents, std::string_view where) {
  constexpr auto malformed = status_code::malformed_file;
  constexpr std::string_view magic = "\x93NUMPY";
  const std::string_view text(reinterpret_cast<const char*>(contents.data()), contents.size());
  require(text.starts_with(magic), malformed, where, "it does not start with the bytes \\x93NUMPY");
  require(text.size() >= 8, malformed, where, "it ends within its version number");
  const int major = static_cast<int>(contents[6]);
  const int minor = static_cast<int>(contents[7]);
  require(major >= 1 && major <= 3 && minor == 0, status_code::unsupported, where, "format version is ",
          major, ".", minor, ", readable are 1.0, 2.0 and 3.0");
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  const std::size_t prefix_bytes = 8 + length_bytes;
  require(text.size() >= prefix_bytes, malformed, where, "it ends within its header length");
  const std::byte* field = contents.data() + 8;
  const std::size_t length =
      major == 1 ? load_element<std::uint16_t>(field) : load_element<std::uint32_t>(field);
  require(length <= text.size() - prefix_bytes, malformed, where, "the header length is ", length,
          " bytes, but only ", text.size() - prefix_bytes, " follow");
  return {text.substr(prefix_bytes, length), contents.subspan(prefix_bytes + length)};
}

} // namespace qlr::io::detail
