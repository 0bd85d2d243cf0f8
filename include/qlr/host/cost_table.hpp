// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/allocate/choice.hpp>
#include <qlr/decompose/compression_choice.hpp>
#include <qlr/decompose/quantization_cost.hpp>
#include <qlr/host/decompose.hpp>

#include <algorithm>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace qlr {

/// What one choice costs one matrix.
struct cost_entry {
  compression_choice choice;
  double cost = 0;   ///< squared error in the metric: ||W - Q - L R||_F^2, or sum F_ij E_ij^2
  index_t bytes = 0; ///< as decomposition::storage_bytes counts: codes, scales, zero points, L and R
  index_t quantized_bytes = 0; ///< without L and R, as LQ-LoRA counts
};

/// The costs of one matrix (m,n) under a list of choices.
struct cost_table {
  index_t rows = 0;
  index_t cols = 0;
  double energy = 0; ///< the cost of storing nothing: ||W||_F^2 in the metric
  std::vector<cost_entry> entries;
};

/// How L and R are found and measured.
struct cost_table_options {
  svd_method svd = svd_method::randomized;
  randomized_svd_options sketch{};
};

/// The choices of a table for allocate(): costs, and sizes in bytes with everything counted.
///
/// @param weight  all costs are multiplied with it: how much an error of this matrix matters
[[nodiscard]] inline std::vector<allocation_choice> to_allocation_choices(const cost_table& table,
                                                                          double weight = 1.0) {
  std::vector<allocation_choice> choices;
  for (const cost_entry& entry : table.entries) choices.push_back({weight * entry.cost, entry.bytes});
  return choices;
}

namespace detail {

/// Fills the table of one matrix: one decomposition, and for each rank and storage of factors one residual.
template <weight_scalar T>
class cost_table_maker {
public:
  cost_table_maker(matrix_view<const T> weight, std::span<const compression_choice> choices,
                   const metric& weights, const executor& run)
      : weight_(weight), choices_(choices), metric_(weights), run_(run), backend_(run),
        work_(weight.rows(), weight.cols()), left_(0, weight.rows()), right_(0, weight.cols()) {
    table_.rows = weight.rows();
    table_.cols = weight.cols();
    table_.energy = backend_.weight_energies(weight, weights).weighted;
    table_.entries.resize(choices.size());
    is_possible_.resize(choices.size(), true);
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const compression_choice& choice = choices[i];
      cost_entry& entry = table_.entries[i];
      entry.choice = choice;
      entry.quantized_bytes = make_quantizer(choice).layout(table_.rows, table_.cols).storage_bytes();
      entry.bytes = entry.quantized_bytes + factor_bytes(choice.rank, table_.rows, choice.factors) +
                    factor_bytes(choice.rank, table_.cols, choice.factors);
    }
  }

  [[nodiscard]] cost_table make(index_t rank, const cost_table_options& options) {
    if (rank > 0) find_factors(rank, options);
    std::map<std::pair<index_t, factor_storage>, std::vector<std::size_t>> by_factors;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      const compression_choice& choice = choices_[i];
      by_factors[{choice.rank, choice.rank == 0 ? factor_storage::fp32 : choice.factors}].push_back(i);
    }
    for (const auto& [key, members] : by_factors) {
      load_residual(key.first, key.second);
      measure(members);
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      if (!is_possible_[i]) continue;
      if (kept != i) table_.entries[kept] = std::move(table_.entries[i]);
      ++kept;
    }
    table_.entries.resize(kept);
    return std::move(table_);
  }

private:
  /// L R = D^-1 SVD_r(D W S) S^-1, singular values shared by both factors, as LQ-LoRA's first half-step.
  void find_factors(index_t rank, const cost_table_options& options) {
    backend_.subtract_product(weight_, left_, right_, work_);
    backend_.apply_metric(metric_, work_);
    singular_triplets<matrix<float>> triplets =
        options.svd == svd_method::exact
            ? truncated_svd{}.solve(backend_, work_, rank)
            : randomized_svd<host::eigen_backend>(options.sketch).solve(backend_, work_, rank);
    backend_.scale_rows(triplets.left, triplets.values, 0.5F);
    backend_.scale_rows(triplets.right, triplets.values, 0.5F);
    backend_.scale_cols(triplets.left, metric_.row_weights, true);
    backend_.scale_cols(triplets.right, metric_.col_weights, true);
    left_ = std::move(triplets.left);
    right_ = std::move(triplets.right);
  }

  /// work = W - L R with the leading `rank` vectors as they are stored.
  void load_residual(index_t rank, factor_storage storage) {
    matrix<float> left(rank, weight_.rows());
    matrix<float> right(rank, weight_.cols());
    backend_.copy_rows(left_, 0, left, 0);
    backend_.copy_rows(right_, 0, right, 0);
    backend_.store_factor(left, storage);
    backend_.store_factor(right, storage);
    backend_.subtract_product(weight_, left, right, work_);
  }

  /// 2, 3, 4 or 8 for what normal_float_costs measures, 0 for all else.
  [[nodiscard]] static int normal_float_bits(const compression_choice& choice) {
    const format_description& format = find_format(choice.quantizer);
    const scale_coding coding = choice.format.scales.value_or(format.scales).coding;
    const bool is_shared = coding == scale_coding::plain || coding == scale_coding::double_min;
    if (!format.name.starts_with("nf") || !is_shared || choice.format.scale_search) return 0;
    return choice.format.group_size == group_per_tensor || format.is_fixed ? 0 : format.bits;
  }

  void measure(const std::vector<std::size_t>& members) {
    std::map<index_t, std::vector<std::size_t>> by_group;
    for (const std::size_t i : members) {
      if (normal_float_bits(choices_[i]) != 0) {
        const format_description& format = find_format(choices_[i].quantizer);
        by_group[choices_[i].format.group_size.value_or(format.group_size)].push_back(i);
      } else {
        table_.entries[i].cost =
            quantization_cost(work_view(), make_quantizer(choices_[i]), metric_, run_).weighted;
      }
    }
    for (const auto& [group_size, same_group] : by_group) measure_normal_floats(group_size, same_group);
  }

  void measure_normal_floats(index_t group_size, std::vector<std::size_t> members) {
    const normal_float_costs costs(work_view(), group_size, metric_, run_);
    while (!members.empty()) {
      const scale_format scales = scales_of(members.front());
      const auto others = std::stable_partition(members.begin(), members.end(),
                                                [&](std::size_t i) { return scales_of(i) == scales; });
      const std::vector<std::size_t> same(members.begin(), others);
      members.erase(members.begin(), others);
      std::vector<int> bits;
      for (const std::size_t i : same) bits.push_back(normal_float_bits(choices_[i]));
      if (!costs.can_store(scales)) {
        for (const std::size_t i : same) is_possible_[i] = false;
        continue;
      }
      const std::vector<energies> found = costs(scales, bits);
      for (std::size_t i = 0; i < same.size(); ++i) table_.entries[same[i]].cost = found[i].weighted;
    }
  }

  [[nodiscard]] scale_format scales_of(std::size_t i) const {
    return choices_[i].format.scales.value_or(find_format(choices_[i].quantizer).scales);
  }
  [[nodiscard]] matrix_view<const float> work_view() const { return work_.view(); }

  matrix_view<const T> weight_;
  std::span<const compression_choice> choices_;
  const metric& metric_;
  executor run_;
  host::eigen_backend backend_;
  matrix<float> work_;  // (m,n)
  matrix<float> left_;  // (rank,m)
  matrix<float> right_; // (rank,n)
  cost_table table_;
  std::vector<bool> is_possible_;
};

} // namespace detail

/// What each choice costs a matrix, from one decomposition: L R is the best approximation of W of the largest
/// rank, cut to the rank of the choice and rounded as it is stored; Q quantizes W - L R.
///
/// This is the first iterate of LQ-LoRA (schedule `lq-lora` with one iteration); decompose() with the same
/// quantizer, rank and storage of factors has exactly `bytes`, and more iterations only lower the error. The
/// metric is that of decompose().
/// @param[in] weight   (m,n) float or double, any strides
/// @param     choices  at least one; each must suit the shape, see suits()
/// @returns entries in the order of the choices; left out is what fp16 or bf16 scales of a normal float
/// cannot
///          hold
/// @throws qlr::error invalid_argument: no choices, a choice that the shape does not suit, an unknown format
/// @throws qlr::error shape_mismatch, non_finite: see validate()
/// @throws qlr::error unsupported: scales of another format, or factors, beyond the range of their storage
/// @memory one (m,n) float work matrix, factors of the largest rank, 8 bytes for each group; other than
/// normal floats also the codes
/// @complexity one SVD and O(m n) for each choice; choices of normal floats that differ in the storage of the
/// scales share the scales, those that differ in bits also the stored scales
/// @determinism the same bits for the same seed on any number of threads
/// @see Guo et al., LQ-LoRA, arXiv 2311.12023, section 3.2
template <weight_scalar T>
[[nodiscard]] cost_table make_cost_table(matrix_view<const T> weight,
                                         std::span<const compression_choice> choices,
                                         const cost_table_options& options = {}, const metric& weights = {},
                                         const executor& run = {}) {
  require(!choices.empty(), status_code::invalid_argument, "choices is empty, at least one is needed");
  decompose_options checked;
  checked.rank = 0;
  std::size_t largest = 0;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    require(choices[i].rank >= 0, status_code::invalid_argument, "rank is ", choices[i].rank,
            ", allowed are 0 and above");
    if (choices[i].rank > checked.rank) largest = i;
    checked.rank = choices[largest].rank;
    (void)make_quantizer(choices[i]).layout(weight.rows(), weight.cols());
  }
  checked.sketch = options.sketch;
  validate(weight, make_quantizer(choices[largest]), weights, checked, run);
  return detail::cost_table_maker<T>(weight, choices, weights, run).make(checked.rank, options);
}

/// The same from a whole decomposition for each choice: what decompose() reaches, at its price.
///
/// @param steps  schedule of the decompositions, see presets.hpp
/// @throws qlr::error as make_cost_table and decompose
/// @complexity one decompose() for each choice
template <weight_scalar T>
[[nodiscard]] cost_table make_full_cost_table(matrix_view<const T> weight,
                                              std::span<const compression_choice> choices,
                                              const schedule& steps, const cost_table_options& options = {},
                                              const metric& weights = {}, const executor& run = {}) {
  require(!choices.empty(), status_code::invalid_argument, "choices is empty, at least one is needed");
  cost_table table{weight.rows(), weight.cols(), 0.0, {}};
  table.energy = host::eigen_backend(run).weight_energies(weight, weights).weighted;
  for (const compression_choice& choice : choices) {
    decompose_options how;
    how.rank = choice.rank;
    how.steps = steps;
    how.svd = options.svd;
    how.factors = choice.factors;
    how.sketch = options.sketch;
    const decompose_result found = decompose(weight, make_quantizer(choice), how, weights, run);
    table.entries.push_back({choice, found.weighted_error * found.weighted_error * table.energy,
                             found.best.storage_bytes(), found.best.quantized.layout().storage_bytes()});
  }
  return table;
}

/// Keeps the cheapest of the entries of equal size, the first of equal ones: bf16 and fp16 scales take the
/// same bytes. The order stays.
inline void merge_equal_sizes(cost_table& table) {
  std::map<index_t, const cost_entry*> cheapest;
  for (const cost_entry& entry : table.entries) {
    const cost_entry*& best = cheapest[entry.bytes];
    if (best == nullptr || entry.cost < best->cost) best = &entry;
  }
  std::vector<cost_entry> kept;
  for (const cost_entry& entry : table.entries) {
    if (cheapest[entry.bytes] == &entry) kept.push_back(entry);
  }
  table.entries = std::move(kept);
}

} // namespace qlr
