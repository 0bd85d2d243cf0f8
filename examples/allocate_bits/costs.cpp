// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <allocate_bits/costs.hpp>

#include <common/plan.hpp>
#include <common/progress.hpp>

#include <qlr/io/safetensors.hpp>

#include <map>
#include <optional>
#include <string_view>

namespace {

using qlr::index_t;
using qlr::status_code;

/// True when the name is the pattern, in which every * stands for any text.
bool is_match(std::string_view name, std::string_view pattern) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return name == pattern;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (std::size_t i = star; i <= name.size(); ++i) {
    if (is_match(name.substr(i), rest)) return true;
  }
  return false;
}

bool is_matrix_of_numbers(const qlr::io::tensor_info& tensor) {
  using qlr::io::dtype;
  const bool is_real = tensor.type == dtype::f32 || tensor.type == dtype::f16 || tensor.type == dtype::bf16 ||
                       tensor.type == dtype::f64;
  return is_real && tensor.shape.size() == 2 && tensor.shape[0] > 0 && tensor.shape[1] > 0;
}

/// Whether a pattern matches; notes which patterns ever did.
bool is_listed(std::string_view name, const std::vector<std::string>& patterns, std::vector<bool>& is_used) {
  bool is_found = false;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    if (!is_match(name, patterns[i])) continue;
    is_used[i] = true;
    is_found = true;
  }
  return is_found;
}

std::vector<std::string> choose_tensors(const qlr::io::safetensors_file& file, const arguments& args) {
  std::vector<std::string> names;
  std::vector<bool> is_used(args.tensors.size());
  std::vector<bool> is_exclusion_used(args.exclude.size());
  for (const qlr::io::tensor_info& tensor : file.tensors()) {
    if (!is_matrix_of_numbers(tensor)) continue;
    const bool is_wanted = args.tensors.empty() || is_listed(tensor.name, args.tensors, is_used);
    const bool is_excluded = is_listed(tensor.name, args.exclude, is_exclusion_used);
    if (is_wanted && !is_excluded) names.push_back(tensor.name);
  }
  const auto require_used = [&](const char* option, const std::vector<std::string>& patterns,
                                const std::vector<bool>& used) {
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      qlr::require(used[i], status_code::invalid_argument, option, " is '", patterns[i],
                   "', which no 2-D tensor of numbers in ", args.input, " matches");
    }
  };
  require_used("tensors", args.tensors, is_used);
  require_used("exclude", args.exclude, is_exclusion_used);
  qlr::require(!names.empty(), status_code::invalid_argument, args.input,
               " has no 2-D tensor of numbers that is not excluded");
  return names;
}

std::vector<qlr::compression_choice> all_choices(const arguments& args) {
  std::vector<qlr::compression_choice> choices =
      args.grid == "small" ? qlr::small_grid(args.ranks) : qlr::lq_lora_grid(args.ranks);
  for (qlr::compression_choice& choice : choices) {
    choice.factors = qlr::factor_storage_of_bits(args.factor_bits);
  }
  return choices;
}

std::vector<qlr::compression_choice> choices_for(const std::vector<qlr::compression_choice>& all,
                                                 const std::string& name, index_t rows, index_t cols) {
  std::vector<qlr::compression_choice> result;
  for (const qlr::compression_choice& choice : all) {
    if (suits(choice, rows, cols)) result.push_back(choice);
  }
  qlr::require(!result.empty(), status_code::invalid_argument, "tensor '", name, "' is ", rows, " x ", cols,
               ", which no choice suits: groups have 16 columns or more; leave it out with --exclude");
  return result;
}

/// A tensor in the file's memory, or a copy where the file has another type.
struct weight_matrix {
  weight_matrix(const qlr::io::safetensors_file& file, const std::string& name) {
    if (file.has_f32_view(name)) {
      view = file.f32_view(name);
    } else {
      copy = file.read_matrix(name);
      view = std::as_const(copy).view();
    }
  }
  qlr::matrix<float> copy;
  qlr::matrix_view<const float> view;
};

qlr::cost_table measure(const arguments& args, const std::vector<qlr::compression_choice>& choices,
                        qlr::matrix_view<const float> weight, const qlr::metric& metric,
                        const qlr::executor& run) {
  qlr::cost_table_options options;
  options.svd = args.svd == "exact" ? qlr::svd_method::exact : qlr::svd_method::randomized;
  options.sketch.seed = args.seed;
  qlr::cost_table table =
      args.method.empty() ? qlr::make_cost_table(weight, choices, options, metric, run)
                          : qlr::make_full_cost_table(weight, choices, qlr::find_preset(args.method).steps,
                                                      options, metric, run);
  return table;
}

} // namespace

void check_tensors(const arguments& args) {
  const qlr::io::safetensors_file file(args.input);
  const std::vector<qlr::compression_choice> choices = all_choices(args);
  for (const std::string& name : choose_tensors(file, args)) {
    const std::vector<index_t>& shape = file.find(name).shape;
    (void)choices_for(choices, name, shape[0], shape[1]);
  }
}

std::vector<tensor_costs> measure_costs(const arguments& args, const qlr::executor& run) {
  const qlr::io::safetensors_file file(args.input);
  std::optional<qlr::io::safetensors_file> fisher_file;
  if (!args.fisher.empty()) fisher_file.emplace(args.fisher);
  std::map<std::string, double> weights;
  if (!args.weights.empty()) weights = read_weights(args.weights);
  const std::vector<qlr::compression_choice> choices = all_choices(args);
  progress shown(!args.quiet, "tensor");
  std::vector<tensor_costs> result;
  for (const std::string& name : choose_tensors(file, args)) {
    shown.set_step(static_cast<int>(result.size()));
    const weight_matrix weight(file, name);
    try {
      std::optional<weight_matrix> fisher;
      qlr::metric metric;
      if (fisher_file) {
        fisher.emplace(*fisher_file, name);
        metric = qlr::make_fisher_metric(fisher->view, weight.view.rows(), weight.view.cols());
      }
      tensor_costs costs{name, 1.0, {}};
      costs.table = measure(args, choices_for(choices, name, weight.view.rows(), weight.view.cols()),
                            weight.view, metric, run);
      if (!args.weights.empty()) {
        qlr::require(weights.contains(name), status_code::invalid_argument, args.weights,
                     " has no weight for it");
        costs.weight = weights.at(name);
      }
      if (args.cost == "relative" && costs.table.energy > 0) costs.weight /= costs.table.energy;
      result.push_back(std::move(costs));
    } catch (const qlr::error& failure) {
      qlr::fail(failure.code(), "tensor '", name, "': ", failure.what());
    }
  }
  return result;
}
