// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/config.hpp>

#include <atomic>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace qlr {

/// What kind of mistake an error reports.
enum class status_code {
  invalid_argument, ///< an option or argument is outside what is allowed
  shape_mismatch,   ///< two shapes that must agree do not
  non_finite,       ///< an input holds NaN or infinity
  unsupported,      ///< valid, but this format or combination is not handled
  malformed_file,   ///< a file contradicts its own format
  io_failure,       ///< the operating system refused to read or write
  numerical_failure, ///< an iteration broke down (never: a tolerance was not reached)
  out_of_memory,     ///< a device has too little memory left
  device_failure     ///< a GPU or its driver reported an error
};

/// Exception of every failing call: a code and one sentence naming the argument, its value and what is
/// allowed.
class error : public std::runtime_error {
public:
  error(status_code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] status_code code() const noexcept { return code_; }

private:
  status_code code_;
};

/// Called instead of throwing when exceptions are disabled; must not return.
using error_handler = void (*)(status_code code, const char* message);

namespace detail {

inline void print_error(status_code /*code*/, const char* message) {
  std::fprintf(stderr, "qlr: %s\n", message);
}

inline std::atomic<error_handler>& current_error_handler() {
  static std::atomic<error_handler> handler{&print_error};
  return handler;
}

inline void append(std::string& text, std::string_view part) {
  text.append(part);
}
inline void append(std::string& text, char part) {
  text.push_back(part);
}

template <std::integral T>
void append(std::string& text, T part) {
  text += std::to_string(part);
}

template <std::floating_point T>
void append(std::string& text, T part) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", static_cast<double>(part));
  text += buffer;
}

} // namespace detail

/// Replaces the handler used in builds without exceptions and returns the previous one.
inline error_handler set_error_handler(error_handler handler) noexcept {
  return detail::current_error_handler().exchange(handler != nullptr ? handler : &detail::print_error);
}

/// Joins strings and numbers into one message.
template <class... Parts>
[[nodiscard]] std::string sentence(const Parts&... parts) {
  std::string text;
  (detail::append(text, parts), ...);
  return text;
}

/// Throws qlr::error with the parts joined into one sentence; without exceptions calls the handler, then
/// aborts.
template <class... Parts>
[[noreturn]] void fail(status_code code, const Parts&... parts) {
#if QLR_HAS_EXCEPTIONS
  throw error(code, sentence(parts...));
#else
  detail::current_error_handler().load()(code, sentence(parts...).c_str());
  std::abort();
#endif
}

/// fail(code, parts...) unless the condition holds.
template <class... Parts>
void require(bool condition, status_code code, const Parts&... parts) {
  if (!condition) fail(code, parts...);
}

} // namespace qlr
