// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/allocate/detail/reduction.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace qlr::detail {

/// What is known after a search.
struct core_search_result {
  std::vector<std::size_t> chosen; ///< position in frontiers::choices, for each matrix
  double excess = 0;               ///< of the solution, above the linear bound
  double proven_excess = 0;        ///< no solution has less
  bool is_proven = false;
  index_t num_nodes = 0;
};

/// Breadth-first branch and bound: matrices join the core one at a time, the others stay at the choice of the
/// linear relaxation.
///
/// A state is one way to change the matrices of the core. Its value is excess + price * slack, what it costs
/// above the linear bound if no other matrix changes; while slack is negative it is no solution yet. Of two
/// states the one with more slack and less value is as good whatever follows. Matrices join in the order in
/// which a change costs least per size, so that bounds rise quickly.
/// @see Pisinger, A minimal algorithm for the multiple-choice knapsack problem, EJOR 83 (1995)
class core_search {
public:
  core_search(const frontiers& f, const relaxation& linear, const allocate_options& options)
      : f_(f), linear_(linear), options_(options) {
    result_.chosen = linear.chosen;
    result_.excess = linear.price * static_cast<double>(linear.slack);
    fill_slack();
  }

  [[nodiscard]] core_search_result run() {
    if (result_.excess <= margin()) return finish(true);
    least_open_ = result_.excess;
    order_matrices();
    return finish(expand_all());
  }

private:
  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

  /// @param is_complete  no state was given up that might hold something better
  core_search_result finish(bool is_complete) {
    keep_best();
    result_.proven_excess = std::clamp(least_open_, 0.0, result_.excess);
    result_.is_proven = is_complete && result_.excess - result_.proven_excess <= rounding();
    if (result_.is_proven) result_.proven_excess = result_.excess;
    return std::move(result_);
  }

  struct state {
    index_t slack;
    double excess;
    std::uint32_t node;   ///< decisions so far
    std::uint32_t choice; ///< of the matrix that joined last; none while it is in no node
  };
  /// A decision of a matrix of the core, and those before it.
  struct node {
    std::uint32_t parent;
    std::uint32_t order;  ///< of the matrix
    std::uint32_t choice; ///< counted from the matrix' first
  };
  /// A matrix with its cheapest change per size, up and down.
  struct member {
    std::size_t matrix;
    double grow;   ///< least excess per size of the larger choices
    double shrink; ///< likewise of the smaller ones
  };

  [[nodiscard]] double value_of(const state& s) const {
    return s.excess + linear_.price * static_cast<double>(s.slack);
  }

  /// What sums in double precision may be wrong by.
  [[nodiscard]] double rounding() const {
    return 8 * std::numeric_limits<double>::epsilon() * std::fabs(linear_.bound);
  }
  /// Solutions that gain no more than this are not looked for.
  [[nodiscard]] double margin() const {
    return std::max(rounding(), options_.gap_rel * std::fabs(linear_.bound + result_.excess));
  }
  [[nodiscard]] bool is_hopeless(double bound) {
    if (bound < result_.excess - margin()) return false;
    least_open_ = std::min(least_open_, bound);
    return true;
  }

  /// Least excess of whatever a state can become, when the matrices from `order` on may still change.
  [[nodiscard]] double bound_of(const state& s, std::size_t order) const {
    const double size = static_cast<double>(s.slack);
    if (s.slack < 0) return s.excess - least_shrink_[order] * size;
    return s.excess + std::min(linear_.price, least_grow_[order]) * size;
  }

  /// First solution: the whole steps of the relaxation, then whatever else fits.
  void fill_slack() {
    index_t slack = linear_.slack;
    exact_sum excess;
    for (std::size_t i = 0; i < f_.count(); ++i) {
      std::size_t& chosen = result_.chosen[i];
      const index_t base = f_.choices[chosen].size;
      while (chosen + 1 < f_.first[i + 1] && f_.choices[chosen + 1].size - base <= slack) ++chosen;
      slack -= f_.choices[chosen].size - base;
      excess.add(f_.choices[chosen].excess);
    }
    excess.add(linear_.price * static_cast<double>(slack));
    result_.excess = excess.value();
  }

  void order_matrices() {
    constexpr double never = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < f_.count(); ++i) {
      member m{i, never, never};
      const index_t base = f_.choices[linear_.chosen[i]].size;
      for (std::size_t c = f_.first[i]; c < f_.first[i + 1]; ++c) {
        const frontier_choice& choice = f_.choices[c];
        if (c == linear_.chosen[i] || is_hopeless(choice.excess)) continue;
        const double slope = choice.excess / std::fabs(static_cast<double>(choice.size - base));
        (choice.size > base ? m.grow : m.shrink) = std::min(choice.size > base ? m.grow : m.shrink, slope);
      }
      if (m.grow < never || m.shrink < never) core_.push_back(m);
    }
    std::sort(core_.begin(), core_.end(), [](const member& a, const member& b) {
      const double slope_a = std::min(a.grow, a.shrink);
      const double slope_b = std::min(b.grow, b.shrink);
      return slope_a != slope_b ? slope_a < slope_b : a.matrix < b.matrix;
    });
    least_grow_.assign(core_.size() + 1, never);
    least_shrink_.assign(core_.size() + 1, never);
    for (std::size_t i = core_.size(); i-- > 0;) {
      least_grow_[i] = std::min(least_grow_[i + 1], core_[i].grow);
      least_shrink_[i] = std::min(least_shrink_[i + 1], core_[i].shrink);
    }
  }

  /// False when states were given up because of a limit.
  bool expand_all() {
    bool is_complete = true;
    states_ = {{linear_.slack, 0.0, none, none}};
    for (std::size_t order = 0; order < core_.size() && !states_.empty(); ++order) {
      if (result_.num_nodes > options_.max_nodes) {
        for (const state& s : states_) least_open_ = std::min(least_open_, bound_of(s, order));
        return false;
      }
      if (!expand(order)) continue;
      if (static_cast<index_t>(states_.size()) > options_.max_states) {
        cut_states(order + 1);
        is_complete = false;
      }
      record_nodes(order);
    }
    return is_complete;
  }

  /// Lets a matrix join the core; false when none of its changes can lead to a better solution.
  bool expand(std::size_t order) {
    const std::size_t matrix = core_[order].matrix;
    const frontier_choice& base = f_.choices[linear_.chosen[matrix]];
    grown_.clear();
    runs_.assign(1, 0);
    for (std::size_t c = f_.first[matrix]; c < f_.first[matrix + 1]; ++c) {
      const frontier_choice& choice = f_.choices[c];
      if (c == linear_.chosen[matrix] || is_hopeless(choice.excess)) continue;
      const auto number = static_cast<std::uint32_t>(c - f_.first[matrix]);
      for (const state& s : states_) {
        add_state({s.slack - (choice.size - base.size), s.excess + choice.excess, s.node, number}, order);
      }
      if (grown_.size() > runs_.back()) runs_.push_back(grown_.size());
      result_.num_nodes += static_cast<index_t>(states_.size());
    }
    if (runs_.size() == 1) return false;
    result_.num_nodes += static_cast<index_t>(states_.size());
    for (const state& s : states_) {
      if (!is_hopeless(bound_of(s, order + 1))) grown_.push_back(s);
    }
    if (grown_.size() > runs_.back()) runs_.push_back(grown_.size());
    sort_grown();
    keep_undominated(order + 1);
    return true;
  }

  void add_state(const state& s, std::size_t order) {
    if (s.slack >= 0 && value_of(s) < result_.excess) {
      result_.excess = value_of(s);
      best_ = {s.node, static_cast<std::uint32_t>(order), s.choice};
      has_best_ = true;
    }
    if (!is_hopeless(bound_of(s, order + 1))) grown_.push_back(s);
  }

  /// Most slack first, then least value; the runs are sorted by slack already.
  void sort_grown() {
    const auto before = [this](const state& a, const state& b) {
      return a.slack != b.slack ? a.slack > b.slack : value_of(a) < value_of(b);
    };
    while (runs_.size() > 2) {
      std::size_t kept = 1;
      const auto at = [this](std::size_t run) {
        return grown_.begin() + static_cast<std::ptrdiff_t>(runs_[run]);
      };
      for (std::size_t run = 0; run + 2 < runs_.size(); run += 2) {
        std::inplace_merge(at(run), at(run + 1), at(run + 2), before);
        runs_[kept++] = runs_[run + 2];
      }
      if (runs_.size() % 2 == 0) runs_[kept++] = runs_.back();
      runs_.resize(kept);
    }
  }

  void keep_undominated(std::size_t order) {
    double least = std::numeric_limits<double>::infinity();
    states_.clear();
    for (const state& s : grown_) {
      const double value = value_of(s);
      if (value >= least || is_hopeless(bound_of(s, order))) continue;
      least = value;
      states_.push_back(s);
    }
  }

  /// Keeps the max_states states with the least bounds.
  void cut_states(std::size_t order) {
    std::vector<double> bounds;
    for (const state& s : states_) bounds.push_back(bound_of(s, order));
    const auto last = bounds.begin() + static_cast<std::ptrdiff_t>(options_.max_states);
    std::nth_element(bounds.begin(), last, bounds.end());
    const double limit = *last;
    least_open_ = std::min(least_open_, limit);
    std::erase_if(states_, [&](const state& s) { return bound_of(s, order) >= limit; });
  }

  void record_nodes(std::size_t order) {
    for (state& s : states_) {
      if (s.choice == none) continue;
      nodes_.push_back({s.node, static_cast<std::uint32_t>(order), s.choice});
      s = {s.slack, s.excess, static_cast<std::uint32_t>(nodes_.size() - 1), none};
    }
    if (nodes_.size() > nodes_limit_) collect_nodes();
  }

  /// Writes the best solution so far into the result, so that its nodes are needed no more.
  void keep_best() {
    if (!has_best_) return;
    result_.chosen = linear_.chosen;
    for (node n = best_;; n = nodes_[n.parent]) {
      const std::size_t matrix = core_[n.order].matrix;
      result_.chosen[matrix] = f_.first[matrix] + n.choice;
      if (n.parent == none) break;
    }
    has_best_ = false;
  }

  /// Frees the nodes that no state refers to; parents come before their children.
  void collect_nodes() {
    keep_best();
    std::vector<std::uint32_t> moved(nodes_.size(), none); // first a mark, then the new position
    for (const state& s : states_) {
      for (std::uint32_t n = s.node; n != none && moved[n] == none; n = nodes_[n].parent) moved[n] = 0;
    }
    std::uint32_t count = 0;
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      if (moved[n] == none) continue;
      node kept = nodes_[n];
      if (kept.parent != none) kept.parent = moved[kept.parent];
      nodes_[count] = kept;
      moved[n] = count++;
    }
    nodes_.resize(count);
    for (state& s : states_) {
      if (s.node != none) s.node = moved[s.node];
    }
    nodes_limit_ = std::max<std::size_t>(first_nodes_limit, 2 * nodes_.size());
  }

  static constexpr std::size_t first_nodes_limit = std::size_t{1} << 22;

  const frontiers& f_;
  const relaxation& linear_;
  const allocate_options& options_;
  core_search_result result_;
  double least_open_ = 0; ///< least bound of what was given up or found
  std::vector<member> core_;
  std::vector<double> least_grow_; ///< over the matrices from a position of core_ on
  std::vector<double> least_shrink_;
  std::vector<state> states_; ///< most slack first, value falls
  std::vector<state> grown_;
  std::vector<std::size_t> runs_; ///< where sorted runs of grown_ begin; its size at the end
  std::vector<node> nodes_;
  std::size_t nodes_limit_ = first_nodes_limit;
  node best_{none, 0, 0};
  bool has_best_ = false;
};

} // namespace qlr::detail
