// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace qlr::test {

/// An element of a drawing.
struct element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text; // right within it
  std::string parent_stroke;
};

/// Reads the part of XML that a drawing needs and refuses all else.
class svg_reader {
public:
  explicit svg_reader(std::string text) : text_(std::move(text)) {
    while (at_ < text_.size()) read_next();
    demand(open_.empty(), "an element stays open");
  }

  std::vector<element> elements;

private:
  static void demand(bool condition, const std::string& what) {
    if (!condition) throw std::runtime_error("no XML: " + what);
  }

  void read_next() {
    if (text_[at_] == '<') return text_.compare(at_, 2, "</") == 0 ? read_end() : read_begin();
    const std::size_t end = std::min(text_.find('<', at_), text_.size());
    const std::string data = unescaped(text_.substr(at_, end - at_));
    demand(!open_.empty() || data.find_first_not_of('\n') == std::string::npos,
           "text outside of all elements");
    if (!open_.empty()) elements[open_.back()].text += data;
    at_ = end;
  }

  void read_end() {
    const std::size_t end = text_.find('>', at_);
    demand(!open_.empty() && text_.substr(at_ + 2, end - at_ - 2) == elements[open_.back()].name, "end");
    open_.pop_back();
    at_ = end + 1;
  }

  void read_begin() {
    demand(elements.empty() || !open_.empty(), "two roots");
    element next;
    if (!open_.empty()) next.parent_stroke = elements[open_.back()].attributes["stroke"];
    ++at_;
    next.name = read_name();
    while (text_.at(at_) == ' ') {
      ++at_;
      const std::string key = read_name();
      demand(text_.compare(at_, 2, "=\"") == 0, "a value without quotes");
      const std::size_t end = text_.find('"', at_ + 2);
      const std::string value = unescaped(text_.substr(at_ + 2, end - at_ - 2));
      demand(next.attributes.emplace(key, value).second, "an attribute given twice");
      at_ = end + 1;
    }
    const bool is_empty = text_.at(at_) == '/';
    at_ += is_empty ? 1 : 0;
    demand(text_.at(at_++) == '>', "an element that does not end");
    elements.push_back(next);
    if (!is_empty) open_.push_back(elements.size() - 1);
  }

  std::string read_name() {
    const std::size_t begin = at_;
    while ((text_.at(at_) >= 'a' && text_[at_] <= 'z') || text_[at_] == '-' || text_[at_] == 'B') ++at_;
    demand(at_ > begin, "a name is missing");
    return text_.substr(begin, at_ - begin);
  }

  static std::string unescaped(const std::string& text) {
    const std::map<std::string, std::string> entities{
        {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}};
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      demand(text[i] != '<', "a raw <");
      demand(text[i] == '\n' || static_cast<unsigned char>(text[i]) >= 0x20U, "a control character");
      if (text[i] != '&') {
        result += text[i];
        continue;
      }
      const std::size_t end = text.find(';', i);
      demand(end != std::string::npos, "a raw &");
      result += entities.at(text.substr(i, end + 1 - i));
      i = end;
    }
    return result;
  }

  std::string text_;
  std::size_t at_ = 0;
  std::vector<std::size_t> open_;
};

/// In the order of the file.
///
/// @throws std::runtime_error, std::out_of_range: it is not well-formed
[[nodiscard]] inline std::vector<element> elements_of(const std::string& drawing) {
  return svg_reader(drawing).elements;
}

} // namespace qlr::test
