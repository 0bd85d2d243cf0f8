// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/finite.hpp>
#include <qlr/core/matrix.hpp>
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/detail/peft_config.hpp>
#include <qlr/io/detail/peft_config_text.hpp>
#include <qlr/io/detail/peft_names.hpp>
#include <qlr/io/safetensors.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace qlr::io {

// A LoRA adapter of PEFT is adapter_model.safetensors with, for each module of the base model,
//   base_model.model.<module>.lora_A.weight [r,in] and .lora_B.weight [out,r],
//   or .lora_embedding_A [r,vocab] and .lora_embedding_B [dim,r],
// some with the name of the adapter behind lora_A and lora_B, and adapter_config.json beside it. The change
// of the weight is s lora_B lora_A = s L R (transposed for embeddings), s = lora_alpha / r, or lora_alpha /
// sqrt(r) with use_rslora; rank_pattern and alpha_pattern replace r and lora_alpha for the modules they
// match.

/// One pair L (m,r) and R (r,n) of an adapter file.
struct peft_pair {
  std::string module;     ///< name in the base model; empty for tensors named lora_A and lora_B alone
  std::string left_name;  ///< of the tensor lora_B
  std::string right_name; ///< of the tensor lora_A
  index_t rows = 0;
  index_t cols = 0; ///< of a convolution: all but its first dimension
  index_t rank = 0;
  float scale = 1.0F; ///< s; 1 without adapter_config.json
};

/// An open PEFT adapter. Nothing in it is trusted: names, shapes and the configuration are checked on
/// opening.
class peft_file {
public:
  /// @param path  adapter_model.safetensors, another name for it, or the folder that holds it
  /// @throws qlr::error io_failure: a file cannot be opened
  /// @throws qlr::error malformed_file: half of a pair is missing, shapes do not fit, or the files contradict
  /// themselves or each other
  /// @throws qlr::error unsupported: a pattern that is more than a name; see adapter_config.json above
  explicit peft_file(const std::string& path)
      : peft_file(safetensors_file(tensor_path(path)), read_config(path)) {}

  /// @param config  text of adapter_config.json, if there is one
  explicit peft_file(safetensors_file file, const std::optional<std::string>& config = std::nullopt)
      : file_(std::move(file)) {
    if (config) config_.emplace(*config, "adapter_config.json: ");
    for (const tensor_info& tensor : file_.tensors()) add(tensor);
    std::ranges::sort(pairs_, {}, &peft_pair::right_name);
  }

  /// By name.
  [[nodiscard]] const std::vector<peft_pair>& pairs() const { return pairs_; }
  [[nodiscard]] const safetensors_file& tensors() const { return file_; }
  /// Text of adapter_config.json; empty without one.
  [[nodiscard]] std::string config_text() const { return config_ ? config_->text() : std::string(); }

  /// L (m,r).
  ///
  /// @throws qlr::error unsupported: an element type that is no number
  [[nodiscard]] matrix<float> left(const peft_pair& pair) const {
    return file_.read_matrix(pair.left_name, flatten::trailing_dimensions);
  }
  /// R (r,n).
  [[nodiscard]] matrix<float> right(const peft_pair& pair) const {
    return file_.read_matrix(pair.right_name, flatten::trailing_dimensions);
  }

private:
  static bool is_folder(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
  }

  static std::string tensor_path(const std::string& path) {
    return is_folder(path) ? (std::filesystem::path(path) / "adapter_model.safetensors").string() : path;
  }

  static std::optional<std::string> read_config(const std::string& path) {
    constexpr std::size_t most_bytes = 16'000'000;
    const std::filesystem::path beside = std::filesystem::path(tensor_path(path)).parent_path();
    const std::string name = (beside / "adapter_config.json").string();
    std::error_code ignored;
    if (!std::filesystem::exists(name, ignored)) return std::nullopt;
    const mapped_file file(name);
    require(file.bytes().size() <= most_bytes, status_code::malformed_file, detail::quote(name), " has ",
            file.bytes().size(), " bytes, allowed are at most ", most_bytes);
    return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }

  void add(const tensor_info& tensor) {
    constexpr auto malformed = status_code::malformed_file;
    const std::optional<detail::peft_name> name = detail::parse_peft_name(tensor.name);
    if (!name) return;
    require(file_.contains(name->partner), malformed, "tensor ", detail::quote(tensor.name), " needs ",
            detail::quote(name->partner), ", which is missing");
    if (name->is_left) return;
    const auto [rank, cols] = shape_of(tensor);
    const auto [rows, left_rank] = shape_of(file_.find(name->partner));
    require(rank == left_rank, malformed, "tensor ", detail::quote(tensor.name), " is ", rank, " x ", cols,
            " and ", detail::quote(name->partner), " is ", rows, " x ", left_rank, ", their ranks differ");
    const float scale = config_ ? config_->scale_of(name->module, rank) : 1.0F;
    pairs_.push_back({name->module, name->partner, tensor.name, rows, cols, rank, scale});
  }

  /// (rows, cols), none of them 0.
  static std::pair<index_t, index_t> shape_of(const tensor_info& tensor) {
    index_t cols = 1; // cannot overflow: the shape was checked against the bytes
    for (std::size_t i = 1; i < tensor.shape.size(); ++i)
      cols = tensor.shape[i] == 0 ? 0 : cols * tensor.shape[i];
    require(tensor.shape.size() >= 2 && tensor.shape[0] > 0 && cols > 0, status_code::malformed_file,
            "tensor ", detail::quote(tensor.name), " has the shape ", detail::shape_text(tensor.shape),
            ", a factor has two dimensions or more, none of them 0");
    return {tensor.shape[0], cols};
  }

  safetensors_file file_;
  std::optional<detail::peft_config> config_;
  std::vector<peft_pair> pairs_;
};

/// New factors for one pair of an adapter.
struct peft_factors {
  matrix<float> left;  ///< L (m,r'), r' at most the pair's rank: missing vectors are written as zeros
  matrix<float> right; ///< R (r',n)
};

/// Writes an adapter with new factors and everything else as it was, so that PEFT loads it.
///
/// Writes `path`, and adapter_config.json beside it: the source's, or, where it has none, one whose scales
/// are 1.
/// @param source   where names, shapes, scales and all other tensors come from; its files may be overwritten
/// @param factors  one for each of source.pairs()
/// @param type     F32, or F16, which rounds
/// @throws qlr::error invalid_argument: another type
/// @throws qlr::error shape_mismatch: factors that do not fit their pair
/// @throws qlr::error non_finite: NaN or infinity in a factor;  unsupported: an entry beyond the range of
/// fp16
/// @throws qlr::error io_failure: a file cannot be written
inline void save_peft(const std::string& path, const peft_file& source, std::span<const peft_factors> factors,
                      dtype type = dtype::f16) {
  require(type == dtype::f32 || type == dtype::f16, status_code::invalid_argument, "dtype is ",
          dtype_name(type), ", allowed are F32 and F16");
  require(factors.size() == source.pairs().size(), status_code::shape_mismatch, "factors has ",
          factors.size(), " entries, the adapter has ", source.pairs().size(), " pairs");
  std::map<std::string, std::vector<std::byte>> replaced;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const peft_pair& pair = source.pairs()[i];
    detail::check_factors(pair.left_name, pair.rows, pair.cols, pair.rank, factors[i].left.view(),
                          factors[i].right.view());
    replaced[pair.left_name] =
        detail::factor_bytes(factors[i].left.view(), pair.rows, pair.rank, type, pair.left_name);
    replaced[pair.right_name] =
        detail::factor_bytes(factors[i].right.view(), pair.rank, pair.cols, type, pair.right_name);
  }
  std::vector<tensor_entry> entries;
  for (const tensor_info& tensor : source.tensors().tensors()) {
    const auto found = replaced.find(tensor.name);
    if (found != replaced.end()) {
      entries.push_back({tensor.name, type, tensor.shape, found->second});
      continue;
    }
    require(tensor.type.has_value(), status_code::unsupported, "tensor ", detail::quote(tensor.name),
            " has the type ", detail::quote(tensor.dtype_text), ", which cannot be copied");
    entries.push_back({tensor.name, *tensor.type, tensor.shape, source.tensors().bytes(tensor.name)});
  }
  std::string config = source.config_text();
  if (config.empty()) {
    std::vector<detail::module_rank> modules;
    for (const peft_pair& pair : source.pairs()) modules.emplace_back(pair.module, pair.rank);
    config = detail::peft_config_text(modules, "", "");
  }
  const std::filesystem::path beside = std::filesystem::path(path).parent_path();
  atomic_file config_file((beside / "adapter_config.json").string());
  config_file.write(config);
  write_safetensors(path, entries, source.tensors().metadata());
  config_file.commit();
}

} // namespace qlr::io
