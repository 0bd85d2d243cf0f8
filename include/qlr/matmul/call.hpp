// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix_view.hpp>
#include <qlr/matmul/detail/kernels.hpp>
#include <qlr/matmul/workspace.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>

namespace qlr {

/// What a product is asked for besides its operands.
struct matmul_options {
  precision mode = precision::exact;
  const float* bias = nullptr; ///< m numbers added to every row of Y, or null
  /// Adapters over the same Q; ranks and scales differ freely. Null entries are not allowed.
  std::span<const packed_factors* const> adapters{};
  /// For each token the index of its adapter, or -1 for none; null when there are no adapters.
  const std::int32_t* adapter_of_token = nullptr;
};

namespace matmul_detail {

/// Tokens first ... first + count - 1 that have the same adapter.
template <class Body>
void for_each_adapter_run(const matmul_options& options, index_t first, index_t count, Body&& body) {
  if (options.adapter_of_token == nullptr) return;
  for (index_t t = first; t < first + count;) {
    const std::int32_t id = options.adapter_of_token[t];
    index_t end = t + 1;
    while (end < first + count && options.adapter_of_token[end] == id) ++end;
    if (id >= 0) body(*options.adapters[static_cast<std::size_t>(id)], t, end - t);
    t = end;
  }
}

/// True when the bytes of two views may overlap.
template <class A, class B>
bool may_overlap(matrix_view<A> a, matrix_view<B> b) {
  if (a.is_empty() || b.is_empty()) return false;
  const auto range = [](const auto& view) {
    const auto* begin = reinterpret_cast<const std::uint8_t*>(view.data());
    const auto* low = begin;
    const auto* high = begin;
    for (const index_t reach :
         {(view.rows() - 1) * view.row_stride(), (view.cols() - 1) * view.col_stride()}) {
      const index_t bytes = reach * static_cast<index_t>(sizeof *view.data());
      (bytes < 0 ? low : high) += bytes;
    }
    return std::pair{low, high + sizeof *view.data()};
  };
  const auto [a_low, a_high] = range(a);
  const auto [b_low, b_high] = range(b);
  return std::less<>{}(a_low, b_high) && std::less<>{}(b_low, a_high);
}

/// Asks for L's part of a panel, which is read after its codes.
inline void prefetch_left(const factor_view& f, index_t panel, index_t rows) {
#if defined(__GNUC__)
  const std::uint8_t* begin = f.left.at(panel * f.rank * rows);
  const index_t bytes = f.rank * rows * number_bytes(f.left.type);
  constexpr int to_second_level = 2;
  for (index_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(begin + byte, 0, to_second_level);
#endif
}

} // namespace matmul_detail

/// One validated product Y = X diag(1 / input_scales) Q^T + s (X R^T) L^T + bias, cut into phases for the
/// caller's own threads.
///
/// Every part of the first phase must have returned before the second begins:
///
///     for (int phase = 0; phase < call.num_phases; ++phase)   // on every thread, with a barrier after each
///       call.run(phase, part, parts);
///
/// Nothing is allocated and nothing throws after construction. The operands, options and workspace must
/// outlive the call.
/// @tparam T  element type of X and Y
template <activation_scalar T>
class matmul_call {
public:
  static constexpr int num_phases = 2; ///< X packed and projected; the panels of Q

  /// @param[in]  x  X (t,n), any strides;  @param[out] y  Y (t,m), any strides; must not overlap X
  /// @throws qlr::error shape_mismatch: X or Y does not fit Q, or an adapter was packed for another Q
  /// @throws qlr::error invalid_argument: a null pointer, X and Y overlap, an adapter index out of range, or
  /// a workspace that is too small
  matmul_call(const packed_weights& w, matrix_view<const T> x, matrix_view<T> y,
              const matmul_options& options, matmul_workspace& workspace);

  /// The instruction set of the kernels that run.
  [[nodiscard]] isa instruction_set() const noexcept { return kernels_.set; }

  /// Tasks of a phase; parts beyond it have nothing to do.
  [[nodiscard]] index_t num_tasks(int phase) const noexcept {
    if (phase == 0) return pack_tasks() + rank_groups() * tasks_of(x_.rows(), project_tokens);
    return weights_.num_panels() * tasks_of(x_.rows(), most_chunk_tokens);
  }

  /// Runs one task of a phase.
  void run_task(int phase, index_t task) const noexcept {
    if (phase == 1) return multiply(task);
    if (task >= pack_tasks()) return project(task - pack_tasks());
    const index_t first = task * pack_tokens;
    kernels_.pack(x_, view_.shape, weights_.input_factors(), first, std::min(pack_tokens, x_.rows() - first),
                  parts_.activations);
  }

  /// Runs the share of one of `parts` workers in a phase; the result does not depend on the number of parts.
  void run(int phase, index_t part, index_t parts) const noexcept {
    const index_t tasks = num_tasks(phase);
    for (index_t task = tasks * part / parts; task < tasks * (part + 1) / parts; ++task)
      run_task(phase, task);
  }

private:
  static constexpr index_t pack_tokens = 4;
  static constexpr index_t project_tokens = matmul_detail::project_tokens;
  static constexpr index_t most_chunk_tokens = matmul_detail::most_chunk_tokens;

  [[nodiscard]] static index_t tasks_of(index_t count, index_t grain) { return (count + grain - 1) / grain; }
  [[nodiscard]] index_t pack_tasks() const { return tasks_of(x_.rows(), pack_tokens); }
  [[nodiscard]] index_t base_groups() const {
    return tasks_of(weights_.low_rank().rank(), matmul_detail::project_ranks);
  }
  /// Groups of ranks of the base, then of the adapters.
  [[nodiscard]] index_t rank_groups() const {
    return base_groups() + tasks_of(parts_.adapter_stride, matmul_detail::project_ranks);
  }

  void check_operands() const {
    require(x_.cols() == weights_.cols(), status_code::shape_mismatch, "X is ", x_.rows(), " x ", x_.cols(),
            ", Q is ", weights_.rows(), " x ", weights_.cols());
    require(y_.rows() == x_.rows() && y_.cols() == weights_.rows(), status_code::shape_mismatch, "Y is ",
            y_.rows(), " x ", y_.cols(), ", it must be ", x_.rows(), " x ", weights_.rows());
    require(x_.rows() == 0 || x_.data() != nullptr, status_code::invalid_argument, "X is a null pointer");
    require(y_.rows() == 0 || y_.data() != nullptr, status_code::invalid_argument, "Y is a null pointer");
    require(!matmul_detail::may_overlap(x_, y_), status_code::invalid_argument, "X and Y overlap in memory");
  }

  /// Returns the largest rank.
  [[nodiscard]] index_t check_adapters() const {
    const auto count = static_cast<index_t>(options_.adapters.size());
    index_t largest = 0;
    for (index_t a = 0; a < count; ++a) {
      const packed_factors* adapter = options_.adapters[static_cast<std::size_t>(a)];
      require(adapter != nullptr, status_code::invalid_argument, "adapter ", a, " is a null pointer");
      require(adapter->rows() == weights_.rows() && adapter->cols() == weights_.cols() &&
                  adapter->instruction_set() == weights_.instruction_set(),
              status_code::shape_mismatch, "adapter ", a, " is ", adapter->rows(), " x ", adapter->cols(),
              " for ", to_string(adapter->instruction_set()), ", Q is ", weights_.rows(), " x ",
              weights_.cols(), " for ", to_string(weights_.instruction_set()));
      largest = std::max(largest, adapter->rank());
    }
    require(count == 0 || options_.adapter_of_token != nullptr, status_code::invalid_argument,
            "adapter_of_token is a null pointer, but there are ", count, " adapters");
    for (index_t t = 0; options_.adapter_of_token != nullptr && t < x_.rows(); ++t) {
      const std::int32_t id = options_.adapter_of_token[t];
      require(id >= -1 && id < count, status_code::invalid_argument, "adapter_of_token[", t, "] is ", id,
              ", allowed are -1 (none) to ", count - 1);
    }
    return largest;
  }

  /// One group of ranks for a run of tokens.
  void project(index_t task) const {
    const index_t first = task / rank_groups() * project_tokens;
    const index_t count = std::min(project_tokens, x_.rows() - first);
    const index_t group = task % rank_groups();
    if (group < base_groups()) {
      const packed_factors& base = weights_.low_rank();
      return kernels_.project(base.view(), x_, group * matmul_detail::project_ranks, first, count,
                              parts_.base, base.rank());
    }
    const index_t rank = (group - base_groups()) * matmul_detail::project_ranks;
    matmul_detail::for_each_adapter_run(
        options_, first, count, [&](const packed_factors& adapter, index_t begin, index_t tokens) {
          if (rank >= adapter.rank()) return;
          kernels_.project(adapter.view(), x_, rank, begin, tokens, parts_.adapter, parts_.adapter_stride);
        });
  }

  /// One panel of rows for one chunk of tokens.
  void multiply(index_t task) const {
    using namespace matmul_detail;
    const index_t rows = panel_rows(lanes_of(weights_.instruction_set()));
    const index_t panel = task % weights_.num_panels();
    const index_t first = task / weights_.num_panels() * most_chunk_tokens;
    const index_t count = std::min(most_chunk_tokens, x_.rows() - first);
    alignas(64) float sums[most_chunk_tokens * panel_rows(lanes_of(isa::avx512))];
    std::fill_n(sums, count * rows, 0.0F);
    if (count == 1) prefetch_left(weights_.low_rank().view(), panel, rows);
    kernels_.multiply(view_, parts_.activations, panel, first, count, sums);
    const packed_factors& base = weights_.low_rank();
    kernels_.add_low_rank(base.view(), panel, parts_.base + first * base.rank(), base.rank(), count, sums);
    for_each_adapter_run(
        options_, first, count, [&](const packed_factors& adapter, index_t begin, index_t tokens) {
          kernels_.add_low_rank(adapter.view(), panel, parts_.adapter + begin * parts_.adapter_stride,
                                parts_.adapter_stride, tokens, sums + (begin - first) * rows);
        });
    const index_t row = panel * rows;
    kernels_.store(sums, options_.bias != nullptr ? options_.bias + row : nullptr,
                   {y_.row(first) + row * y_.col_stride(), count, std::min(rows, weights_.rows() - row),
                    y_.row_stride(), y_.col_stride()});
  }

  const packed_weights& weights_;
  matmul_detail::packed_view view_;
  matrix_view<const T> x_;
  matrix_view<T> y_;
  matmul_options options_;
  matmul_detail::kernel_table<T> kernels_;
  matmul_workspace::parts parts_;
};

// Not in the class: it names the kernels, and a file with an extern template declaration must not compile
// them.
template <activation_scalar T>
matmul_call<T>::matmul_call(const packed_weights& w, matrix_view<const T> x, matrix_view<T> y,
                            const matmul_options& options, matmul_workspace& workspace)
    : weights_(w), view_(w.view()), x_(x), y_(y), options_(options),
      kernels_(matmul_detail::kernels_of<T>(w.instruction_set())) {
  check_operands();
  const index_t adapter_rank = check_adapters();
  require(workspace.fits(w, x.rows(), options.mode, adapter_rank), status_code::invalid_argument,
          "workspace has ", workspace.size_bytes(), " bytes, ", x.rows(),
          " tokens need more; call reserve() first");
  parts_ = matmul_workspace::layout(workspace.memory_.data(), w, x.rows(), w.effective(options.mode),
                                    adapter_rank);
}

/// Y = X Q^T + s (X R^T) L^T + bias, straight from packed codes.
///
/// @param[in]  x  X (t,n), any strides;  @param[out] y  Y (t,m), any strides; must not overlap X
/// @param      workspace  large enough for this call; used by one call at a time
/// @param      run        whoever runs the tasks; default: the calling thread
/// @throws qlr::error as matmul_call; nothing is written then
/// @accuracy     see precision
/// @determinism  the same bits for any number of threads, whatever other tokens are in the call, and on any
/// instruction set
template <activation_scalar T>
void matmul(const packed_weights& w, matrix_view<const std::type_identity_t<T>> x, matrix_view<T> y,
            const matmul_options& options, matmul_workspace& workspace, const executor& run = {}) {
  const matmul_call<T> call(w, x, y, options, workspace);
  for (int phase = 0; phase < call.num_phases; ++phase) {
    auto task = [&](index_t index) { call.run_task(phase, index); };
    run(call.num_tasks(phase), task);
  }
}

/// The same with a workspace of its own: convenient, but it allocates on every call.
template <activation_scalar T>
void matmul(const packed_weights& w, matrix_view<const std::type_identity_t<T>> x, matrix_view<T> y,
            const matmul_options& options = {}, const executor& run = {}) {
  index_t adapter_rank = 0;
  for (const packed_factors* adapter : options.adapters) {
    if (adapter != nullptr) adapter_rank = std::max(adapter_rank, adapter->rank());
  }
  matmul_workspace workspace(w, x.rows(), options.mode, adapter_rank);
  matmul(w, x, y, options, workspace, run);
}

} // namespace qlr
