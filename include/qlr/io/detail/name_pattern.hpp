// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace qlr::io::detail {

/// The part of regular expressions that names of modules are matched with: characters, `.`, `\\` in front of
/// a character, `\\d`, `[...]`, each with an optional `*`, `+` or `?`, `^` at the start and `$` at the end.
///
/// Time is the product of both lengths, whatever the pattern: it comes from a file.
class name_pattern {
public:
  /// @param where  start of the message
  /// @throws qlr::error unsupported: groups, alternatives, counts, other classes, or an incomplete pattern
  name_pattern(std::string_view pattern, std::string_view where) {
    const auto refuse = [&] {
      fail(status_code::unsupported, where, "pattern ", quote(pattern),
           " holds more than characters, '.', '\\d', '[...]', '*', '+', '?', '^' and '$'");
    };
    std::string_view rest = pattern;
    if (rest.starts_with('^')) {
      is_anchored_ = true;
      rest.remove_prefix(1);
    }
    while (!rest.empty()) {
      if (rest == "$") return;
      if (!read_atom(rest)) refuse();
    }
  }

  /// True when the pattern is the whole name, or, without `^`, all that follows one of its dots.
  [[nodiscard]] bool matches(std::string_view name) const {
    std::vector<bool> active(atoms_.size() + 1, false);
    enter(active, 0);
    for (std::size_t i = 0; i < name.size(); ++i) {
      std::vector<bool> next(atoms_.size() + 1, false);
      for (std::size_t state = 0; state < atoms_.size(); ++state) {
        if (!active[state] || !atoms_[state].accepts[static_cast<unsigned char>(name[i])]) continue;
        if (atoms_[state].repeats) enter(next, state);
        enter(next, state + 1);
      }
      if (name[i] == '.' && !is_anchored_) enter(next, 0);
      active.swap(next);
    }
    return active.back();
  }

private:
  struct atom {
    std::vector<bool> accepts = std::vector<bool>(256, false);
    bool may_miss = false;
    bool repeats = false;
  };

  /// Activates a state and those behind atoms that may be missing.
  void enter(std::vector<bool>& active, std::size_t state) const {
    active[state] = true;
    while (state < atoms_.size() && atoms_[state].may_miss) active[++state] = true;
  }

  static void accept(atom& target, char first, char last) {
    for (int c = static_cast<unsigned char>(first); c <= static_cast<unsigned char>(last); ++c)
      target.accepts[static_cast<std::size_t>(c)] = true;
  }

  /// Reads one atom and what follows it; false where this is beyond what is supported.
  bool read_atom(std::string_view& rest) {
    const char c = rest.front();
    rest.remove_prefix(1);
    atom next;
    if (c == '\\') {
      if (rest.empty() || !read_escape(rest.front(), next)) return false;
      rest.remove_prefix(1);
    } else if (c == '[') {
      if (!read_class(rest, next)) return false;
    } else if (c == '.') {
      next.accepts.assign(256, true);
    } else {
      if (std::string_view("*+?(){}|^$]").find(c) != std::string_view::npos) return false;
      accept(next, c, c);
    }
    if (!rest.empty() && std::string_view("*+?").find(rest.front()) != std::string_view::npos) {
      next.may_miss = rest.front() != '+';
      next.repeats = rest.front() != '?';
      rest.remove_prefix(1);
    }
    // A repeated atom that must be there once is that atom and then any number of it.
    if (next.repeats && !next.may_miss) {
      atom once = next;
      once.repeats = false;
      atoms_.push_back(once);
      next.may_miss = true;
    }
    atoms_.push_back(next);
    return true;
  }

  static bool read_escape(char c, atom& next) {
    if (c == 'd') {
      accept(next, '0', '9');
      return true;
    }
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!is_letter) accept(next, c, c);
    return !is_letter;
  }

  static bool read_class(std::string_view& rest, atom& next) {
    const std::size_t end = rest.find(']');
    if (end == std::string_view::npos || end == 0 || rest.front() == '^') return false;
    const std::string_view members = rest.substr(0, end);
    if (members.find_first_of("\\[") != std::string_view::npos) return false;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const bool is_range = i + 2 < members.size() && members[i + 1] == '-';
      accept(next, members[i], is_range ? members[i + 2] : members[i]);
      if (is_range) i += 2;
    }
    rest.remove_prefix(end + 1);
    return true;
  }

  std::vector<atom> atoms_;
  bool is_anchored_ = false;
};

} // namespace qlr::io::detail
