// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/allocate/choice.hpp>
#include <qlr/core/status.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace qlr::detail {

/// Adds doubles with an error that does not grow with their number (Neumaier).
class exact_sum {
public:
  void add(double value) {
    const double next = sum_ + value;
    rest_ += std::fabs(sum_) >= std::fabs(value) ? (sum_ - next) + value : (value - next) + sum_;
    sum_ = next;
  }
  [[nodiscard]] double value() const { return sum_ + rest_; }

private:
  double sum_ = 0;
  double rest_ = 0;
};

/// A choice that no other choice of its matrix beats in both cost and size.
struct frontier_choice {
  double cost;
  index_t size;
  index_t index;   ///< among the caller's choices
  double excess;   ///< cost + price * size above the least of the matrix, >= 0
  bool is_on_hull; ///< vertex of the lower convex hull
};

/// The frontiers of all matrices: size rises, cost falls.
struct frontiers {
  std::vector<frontier_choice> choices;
  std::vector<std::size_t> first; ///< of each matrix; one more at the end

  [[nodiscard]] std::size_t count() const { return first.size() - 1; }
};

inline void check_choice(const allocation_choice& choice, std::size_t matrix, std::size_t index) {
  require(is_finite(choice.cost), status_code::non_finite, "the cost of choice ", index, " of matrix ",
          matrix, " is ", choice.cost, ", it must be finite");
  require(choice.size >= 0, status_code::invalid_argument, "the size of choice ", index, " of matrix ",
          matrix, " is ", choice.size, ", it must be >= 0");
}

/// Marks the vertices of the lower convex hull of one frontier.
inline void mark_hull(std::vector<frontier_choice>& choices, std::size_t first) {
  std::vector<std::size_t> hull;
  // The saving per size must fall from edge to edge: a middle vertex that saves less than what follows is
  // beaten by a mixture (LP dominance).
  const auto saving = [&](std::size_t from, std::size_t to) {
    return (choices[from].cost - choices[to].cost) /
           static_cast<double>(choices[to].size - choices[from].size);
  };
  for (std::size_t i = first; i < choices.size(); ++i) {
    while (hull.size() >= 2 && saving(hull[hull.size() - 2], hull.back()) <= saving(hull.back(), i)) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  for (const std::size_t i : hull) choices[i].is_on_hull = true;
}

/// Drops every choice that another one of its matrix beats; of equal ones the first stays.
///
/// @throws qlr::error invalid_argument: a matrix without choices, a negative size, sizes whose sum overflows
/// @throws qlr::error non_finite: a cost is NaN or infinite
inline frontiers find_frontiers(std::span<const allocation_choices> matrices) {
  frontiers result;
  result.first.push_back(0);
  std::vector<frontier_choice> sorted;
  index_t largest_total = 0;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    require(!matrices[i].empty(), status_code::invalid_argument, "matrix ", i,
            " has no choices, each needs at least one");
    sorted.clear();
    for (std::size_t c = 0; c < matrices[i].size(); ++c) {
      check_choice(matrices[i][c], i, c);
      sorted.push_back({matrices[i][c].cost, matrices[i][c].size, static_cast<index_t>(c), 0, false});
    }
    std::sort(sorted.begin(), sorted.end(), [](const frontier_choice& a, const frontier_choice& b) {
      if (a.size != b.size) return a.size < b.size;
      return a.cost != b.cost ? a.cost < b.cost : a.index < b.index;
    });
    const std::size_t first = result.choices.size();
    for (const frontier_choice& choice : sorted) {
      if (result.choices.size() > first && choice.cost >= result.choices.back().cost) continue;
      result.choices.push_back(choice);
    }
    const index_t largest = result.choices.back().size;
    require(largest <= std::numeric_limits<index_t>::max() / 4 - largest_total, status_code::invalid_argument,
            "the sizes up to matrix ", i, " add up to more than 2^61");
    largest_total += largest;
    mark_hull(result.choices, first);
    result.first.push_back(result.choices.size());
  }
  return result;
}

/// A step along the hull of a matrix.
struct hull_edge {
  double saving; ///< cost per size
  std::size_t matrix;
  std::size_t to; ///< position in frontiers::choices
};

/// The optimum of the linear relaxation as a price of memory, and the whole steps of it.
struct relaxation {
  std::vector<std::size_t> chosen; ///< position in frontiers::choices, for each matrix
  index_t slack = 0;               ///< budget that the whole steps leave, >= 0
  double price = 0;                ///< cost that one more unit of memory saves; 0: memory is no limit
  double bound = 0;                ///< the optimum
};

/// Takes steps along the hulls, the most saving per size first, until one does not fit (Zemel 1980).
///
/// @throws qlr::error invalid_argument: the smallest choices exceed the budget
inline relaxation relax(const frontiers& f, index_t budget) {
  relaxation result;
  index_t smallest = 0;
  std::vector<hull_edge> edges;
  for (std::size_t i = 0; i < f.count(); ++i) {
    std::size_t last = f.first[i];
    result.chosen.push_back(last);
    smallest += f.choices[last].size;
    for (std::size_t c = last + 1; c < f.first[i + 1]; ++c) {
      if (!f.choices[c].is_on_hull) continue;
      const auto size = static_cast<double>(f.choices[c].size - f.choices[last].size);
      edges.push_back({(f.choices[last].cost - f.choices[c].cost) / size, i, c});
      last = c;
    }
  }
  require(smallest <= budget, status_code::invalid_argument, "budget is ", budget,
          ", the smallest possible size is ", smallest);
  std::sort(edges.begin(), edges.end(), [](const hull_edge& a, const hull_edge& b) {
    if (a.saving != b.saving) return a.saving > b.saving;
    return a.matrix != b.matrix ? a.matrix < b.matrix : a.to < b.to;
  });
  result.slack = budget - smallest;
  for (const hull_edge& edge : edges) {
    const index_t size = f.choices[edge.to].size - f.choices[result.chosen[edge.matrix]].size;
    if (size > result.slack) {
      result.price = edge.saving;
      break;
    }
    result.chosen[edge.matrix] = edge.to;
    result.slack -= size;
  }
  exact_sum bound;
  for (const std::size_t c : result.chosen) bound.add(f.choices[c].cost);
  bound.add(-result.price * static_cast<double>(result.slack));
  result.bound = bound.value();
  return result;
}

/// Sets the excess of every choice: with slack budget left over, a solution costs
/// bound + sum of its excesses + price * slack.
inline void set_excesses(frontiers& f, const relaxation& linear) {
  for (std::size_t i = 0; i < f.count(); ++i) {
    const frontier_choice base = f.choices[linear.chosen[i]];
    for (std::size_t c = f.first[i]; c < f.first[i + 1]; ++c) {
      frontier_choice& choice = f.choices[c];
      // Hull edges of the price's own slope may come out below 0 by rounding.
      choice.excess = std::max(0.0, (choice.cost - base.cost) +
                                        linear.price * static_cast<double>(choice.size - base.size));
    }
  }
}

} // namespace qlr::detail
