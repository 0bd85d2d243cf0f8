// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/core/types.hpp>
#include <qlr/io/detail/text.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlr::io {

/// Mean squares of the inputs of one weight tensor.
struct imatrix_entry {
  std::string name;           ///< of the weight tensor
  matrix<float> mean_squares; ///< (experts, n): mean of x_j^2; a row is zero where its expert is unusable
  matrix<float> means;        ///< (experts, n): mean of x_j, or empty where the file has none
  std::vector<double> counts; ///< (experts): what the sums were divided by; 0 where an expert saw no tokens
};

/// Why a tensor has no entry, or one of its experts no values.
struct imatrix_unusable {
  std::string name;
  std::string reason; ///< such as "its count is 0"
};

/// The contents of an importance matrix file.
struct importance_matrices {
  std::vector<imatrix_entry> entries;     ///< at least one usable expert each, in the order of the file
  std::vector<imatrix_unusable> unusable; ///< what must fall back to unweighted, in the order of the file
  std::vector<std::string> datasets;      ///< names of the calibration texts, where the file has them

  /// The usable entry of that tensor name, or null.
  [[nodiscard]] const imatrix_entry* find(std::string_view name) const {
    for (const imatrix_entry& entry : entries) {
      if (entry.name == name) return &entry;
    }
    return nullptr;
  }
};

namespace detail {

/// Sums of one tensor as stored.
struct imatrix_sums {
  std::string name;
  matrix<float> sum_squares;  // (experts, n)
  matrix<float> sums;         // (experts, n) or empty
  std::vector<double> counts; // (experts)
};

/// means = sums / count of one expert; where the count is 0 the sums themselves, so that NaN cannot hide
/// there.
///
/// @param what  "value" or "sum", for the message
inline void divide_sums(const matrix<float>& sums, index_t expert, double count, std::string_view what,
                        std::string_view subject, matrix<float>& means) {
  const double divisor = count > 0 ? count : 1.0;
  for (index_t j = 0; j < sums.cols(); ++j) {
    const float sum = sums(expert, j);
    const auto mean = static_cast<float>(static_cast<double>(sum) / divisor);
    require(is_finite(sum) && is_finite(mean), status_code::non_finite, subject, what, '(', expert, ", ", j,
            ") is ", sum, " with count ", count, ", it and its mean must be finite");
    means(expert, j) = mean;
  }
}

inline void check_squares(const matrix<float>& squares, index_t expert, std::string_view subject) {
  for (index_t j = 0; j < squares.cols(); ++j) {
    require(squares(expert, j) >= 0, status_code::malformed_file, subject, "value(", expert, ", ", j, ") is ",
            squares(expert, j), ", a sum of squares must be >= 0");
  }
}

[[nodiscard]] inline bool is_zero_row(const matrix<float>& values, index_t row) {
  for (index_t j = 0; j < values.cols(); ++j) {
    if (values(row, j) != 0) return false;
  }
  return true;
}

/// Divides by the counts and files the tensor under entries or unusable; `where` starts every message.
///
/// @throws qlr::error non_finite, malformed_file (a negative count or sum of squares)
inline void add_imatrix_entry(imatrix_sums stored, std::string_view where, importance_matrices& result) {
  const std::string subject = sentence(where, "entry ", quote(stored.name), ": ");
  const index_t experts = stored.sum_squares.rows();
  imatrix_entry entry{std::move(stored.name), matrix<float>(experts, stored.sum_squares.cols(), 0.0F),
                      matrix<float>(stored.sums.rows(), stored.sums.cols(), 0.0F), std::move(stored.counts)};
  index_t num_usable = 0;
  std::vector<imatrix_unusable> unusable;
  for (index_t expert = 0; expert < experts; ++expert) {
    const double count = entry.counts[static_cast<std::size_t>(expert)];
    require(is_finite(count), status_code::non_finite, subject, "count(", expert, ") is ", count,
            ", it must be finite");
    require(count >= 0, status_code::malformed_file, subject, "count(", expert, ") is ", count,
            ", it must be >= 0");
    divide_sums(stored.sum_squares, expert, count, "value", subject, entry.mean_squares);
    check_squares(stored.sum_squares, expert, subject);
    if (entry.means.size() != 0) divide_sums(stored.sums, expert, count, "sum", subject, entry.means);
    const bool is_zero = is_zero_row(entry.mean_squares, expert);
    if (count > 0 && !is_zero) {
      ++num_usable;
      continue;
    }
    const std::string which = experts > 1 ? sentence("expert ", expert, ": ") : std::string();
    unusable.push_back({entry.name, which + (count > 0 ? "all its values are zero" : "its count is 0")});
    for (index_t j = 0; j < entry.mean_squares.cols(); ++j) entry.mean_squares(expert, j) = 0;
    for (index_t j = 0; j < entry.means.cols(); ++j) entry.means(expert, j) = 0;
  }
  if (experts == 0) unusable.push_back({entry.name, "it has no values"});
  if (num_usable == 0 && experts > 1) {
    unusable.clear();
    unusable.push_back({entry.name, "none of its experts has a count above 0 and values above 0"});
  }
  result.unusable.insert(result.unusable.end(), unusable.begin(), unusable.end());
  if (num_usable > 0) result.entries.push_back(std::move(entry));
}

} // namespace detail

} // namespace qlr::io
