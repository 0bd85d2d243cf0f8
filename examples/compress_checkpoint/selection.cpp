// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/selection.hpp>

#include <common/plan.hpp>
#include <common/text.hpp>
#include <compress_checkpoint/output_format.hpp>

#include <algorithm>
#include <optional>
#include <regex>
#include <string_view>

namespace {

using qlr::index_t;
using qlr::status_code;
using qlr::io::dtype;
using qlr::io::tensor_info;

constexpr const char* embeddings_and_heads =
    "(^|[._])(embed|embedding|embeddings|embed_tokens|embed_in|embed_out|embed_positions|tok_embeddings|"
    "token_embd|word_embeddings|position_embeddings|wte|wpe|lm_head|head|score|classifier)[0-9]*\\.weight$";

/// Regular expressions and which of them ever matched.
class patterns {
public:
  patterns(const char* option, const std::vector<std::string>& texts) : option_(option), texts_(texts) {
    for (const std::string& text : texts) {
      try {
        expressions_.emplace_back(text, std::regex::ECMAScript | std::regex::optimize);
      } catch (const std::regex_error&) {
        qlr::fail(status_code::invalid_argument, option, " is '", text, "', which is no regular expression");
      }
    }
    is_used_.resize(texts.size());
  }

  [[nodiscard]] bool match(const std::string& name) {
    bool is_found = false;
    for (std::size_t i = 0; i < expressions_.size(); ++i) {
      if (!std::regex_search(name, expressions_[i])) continue;
      is_used_[i] = true;
      is_found = true;
    }
    return is_found;
  }

  void require_used(const std::string& input) const {
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      qlr::require(is_used_[i], status_code::invalid_argument, option_, " is '", texts_[i],
                   "', which matches no tensor of '", input, "'");
    }
  }

private:
  const char* option_;
  const std::vector<std::string>& texts_;
  std::vector<std::regex> expressions_;
  std::vector<bool> is_used_;
};

/// Why a tensor cannot be a layer; empty when it can.
std::string obstacle(const tensor_info& tensor) {
  const bool is_real = tensor.type == dtype::f32 || tensor.type == dtype::f16 || tensor.type == dtype::bf16 ||
                       tensor.type == dtype::f64;
  if (!is_real) return qlr::sentence("its type is ", tensor.dtype_text);
  if (tensor.shape.size() != 2) return qlr::sentence("it has ", tensor.shape.size(), " dimensions");
  if (tensor.shape[0] == 0 || tensor.shape[1] == 0) return "it is empty";
  return {};
}

/// Patterns are matched recursively, one level for every character.
void check_name(const std::string& name) {
  constexpr std::size_t longest = 1000;
  qlr::require(name.size() <= longest, status_code::unsupported, "a tensor's name has ", name.size(),
               " bytes, allowed are at most ", longest);
}

class selector {
public:
  selector(const arguments& args, const std::string& input)
      : args_(args), input_(input), include_("include", args.include), exclude_("exclude", args.exclude),
        default_(embeddings_and_heads) {
    if (!args.plan.empty()) plan_ = read_plan(args.plan);
  }

  void add(const qlr::io::checkpoint_tensor& tensor, std::size_t index) {
    const std::string name(tensor.name);
    check_name(name);
    std::string reason = reason_to_keep(name, *tensor.info);
    layer_task task{name, index, tensor.shard_index, 0, 0, {}};
    if (reason.empty()) {
      task.rows = tensor.info->shape[0];
      task.cols = tensor.info->shape[1];
      task.choice = choice_of(task);
      check_choice(task);
      reason = objection(args_.store, task);
    }
    if (reason.empty()) {
      result_.layers.push_back(std::move(task));
      return;
    }
    qlr::require(tensor.info->type.has_value(), status_code::unsupported, "tensor '", name,
                 "' has the type '", tensor.info->dtype_text, "', which cannot be copied");
    const bool is_matrix = tensor.info->shape.size() == 2;
    result_.kept.push_back({name, index, tensor.shard_index, is_matrix, std::move(reason)});
  }

  [[nodiscard]] selection finish() {
    include_.require_used(input_);
    exclude_.require_used(input_);
    require_plan_used();
    std::string why = result_.kept.empty() ? ""
                                           : qlr::sentence("; tensor '", result_.kept.front().name,
                                                           "': ", result_.kept.front().reason);
    qlr::require(!result_.layers.empty(), status_code::invalid_argument, "'", input_,
                 "' has nothing to compress", why);
    return std::move(result_);
  }

private:
  std::string reason_to_keep(const std::string& name, const tensor_info& tensor) {
    const bool is_excluded = exclude_.match(name); // always asked, to see which patterns are used
    const bool is_included = args_.include.empty() ? name.ends_with(".weight") : include_.match(name);
    if (is_excluded) return "it matches --exclude";
    std::string reason = obstacle(tensor);
    if (!reason.empty()) return reason;
    if (plan_) return plan_->tensors.contains(name) ? "" : "it is not in the plan";
    if (!is_included)
      return args_.include.empty() ? "its name does not end in .weight" : "it does not match --include";
    if (args_.include.empty() && std::regex_search(name, default_)) {
      return "it is an embedding or a head";
    }
    return {};
  }

  /// What the command line says about every layer, or the plan about one. Ranks end at the smaller side.
  [[nodiscard]] qlr::compression_choice choice_of(const layer_task& task) const {
    if (plan_) {
      qlr::compression_choice choice = plan_->find(task.name, task.rows, task.cols);
      choice.format.scale_search = args_.format.scale_search;
      return choice;
    }
    const index_t rank = std::min({args_.rank, task.rows, task.cols});
    return {args_.quantizer, args_.format, rank, qlr::factor_storage_of_bits(args_.factor_bits)};
  }

  void check_choice(const layer_task& task) const {
    if (!plan_) return check_store(args_.store, args_.method, task.choice);
    try {
      check_store(args_.store, args_.method, task.choice);
    } catch (const qlr::error& failure) {
      qlr::fail(failure.code(), "plan '", plan_->path, "': tensor '", task.name, "': ", failure.what());
    }
  }

  void require_plan_used() const {
    if (!plan_) return;
    for (const auto& [name, tensor] : plan_->tensors) {
      const auto is_name = [&name = name](const layer_task& task) { return task.name == name; };
      qlr::require(std::ranges::any_of(result_.layers, is_name), status_code::invalid_argument, "plan '",
                   plan_->path, "' has '", name, "', which is no matrix to compress of '", input_, "'");
    }
  }

  const arguments& args_;
  const std::string& input_;
  patterns include_;
  patterns exclude_;
  std::regex default_;
  std::optional<plan> plan_;
  selection result_;
};

} // namespace

selection select_tensors(const qlr::io::checkpoint_folder& input, const arguments& args) {
  qlr::require(input.compressed().empty(), status_code::invalid_argument, "'", args.input,
               "' is compressed already");
  selector choose(args, args.input);
  std::vector<const qlr::io::checkpoint_tensor*> by_name;
  for (const qlr::io::checkpoint_tensor& tensor : input.tensors()) by_name.push_back(&tensor);
  std::ranges::sort(by_name, {}, [](const auto* tensor) { return tensor->name; });
  for (std::size_t i = 0; i < by_name.size(); ++i) choose.add(*by_name[i], i);
  return choose.finish();
}
