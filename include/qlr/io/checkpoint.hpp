// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/decompose/result.hpp>
#include <qlr/io/atomic_file.hpp>
#include <qlr/io/detail/checkpoint_index.hpp>
#include <qlr/io/detail/layout_text.hpp>
#include <qlr/io/detail/tensor_info.hpp>
#include <qlr/io/detail/text.hpp>
#include <qlr/io/mapped_decomposition.hpp>
#include <qlr/io/mapped_file.hpp>
#include <qlr/io/safetensors.hpp>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace qlr::io {

// A checkpoint is a folder with model.safetensors, or with shards model-00001-of-00003.safetensors, ... and
// model.safetensors.index.json, which says in which file each tensor lies; files of other kinds in the folder
// do not matter here. A compressed checkpoint looks the same:
//   metadata of each file: that of the original, and  qlr.format "checkpoint";  qlr.version "1"
//   tensors that are not compressed: as in the original
//   a compressed weight X: what serialize.hpp documents for a decomposition, in one file, with "X." before
//   the name of every tensor and before every metadata key; there is no tensor X then

/// Version of the layout of a compressed checkpoint.
inline constexpr int checkpoint_version = 1;

/// One tensor of a checkpoint; refers to the memory of the checkpoint_folder.
struct checkpoint_tensor {
  std::string_view name;
  std::size_t shard_index = 0;
  const tensor_info* info = nullptr;
};

/// A weight that is stored as a decomposition.
struct compressed_weight {
  std::string name;
  std::size_t shard_index = 0;

  /// Before each name and key of the decomposition in its file.
  [[nodiscard]] std::string prefix() const { return name + '.'; }
};

/// An open checkpoint of one or several safetensors files, compressed or not.
///
/// Nothing in it is trusted: besides the files, that the index and the files agree is checked on opening:
/// each tensor is in the file that the index says, in no other, and each tensor of a file is in the index.
/// Move-only; moving keeps views and spans valid. Const member functions may run on several threads at once.
class checkpoint_folder {
public:
  /// @param path  a folder, a safetensors file, or an index: a name that ends with .json
  /// @throws qlr::error io_failure: a file is missing or cannot be opened
  /// @throws qlr::error malformed_file: a file contradicts itself or another, an index names a file
  /// elsewhere, or the folder has both model.safetensors and an index
  /// @throws qlr::error unsupported: compressed by a newer version
  explicit checkpoint_folder(const std::string& path) {
    const std::string file = find_file(path);
    where_ = sentence("checkpoint ", detail::quote(path), ": ");
    if (file.ends_with(".json")) {
      open_shards(file);
    } else {
      add_shard(file);
    }
    sort_by_name();
    for (std::size_t i = 0; i < shards_.size(); ++i) list_compressed(i);
    check_compressed();
  }

  /// All tensors, the parts of compressed weights among them, by file and in the order of their data.
  [[nodiscard]] const std::vector<checkpoint_tensor>& tensors() const { return tensors_; }
  [[nodiscard]] std::size_t num_shards() const { return shards_.size(); }
  [[nodiscard]] const safetensors_file& shard(std::size_t i) const { return shards_[i]; }
  /// Without the folder.
  [[nodiscard]] const std::string& shard_name(std::size_t i) const { return shard_names_[i]; }
  /// False for a single file without an index.
  [[nodiscard]] bool has_index() const { return has_index_; }
  /// The folder of the files, "." for the current one.
  [[nodiscard]] const std::string& folder() const { return folder_; }

  [[nodiscard]] bool contains(std::string_view name) const { return try_find(name) != nullptr; }

  /// @throws qlr::error invalid_argument: no tensor has that name
  [[nodiscard]] const checkpoint_tensor& find(std::string_view name) const {
    const checkpoint_tensor* tensor = try_find(name);
    require(tensor != nullptr, status_code::invalid_argument, where_, "no tensor is named ",
            detail::quote(name), ", it has ", tensors_.size(), " tensors",
            is_compressed(name) ? "; this weight is compressed" : "");
    return *tensor;
  }

  /// As safetensors_file::bytes.
  [[nodiscard]] std::span<const std::byte> bytes(std::string_view name) const {
    return shards_[find(name).shard_index].bytes(name);
  }
  /// As safetensors_file::read_matrix.
  [[nodiscard]] matrix<float> read_matrix(std::string_view name, flatten mode = flatten::never) const {
    return shards_[find(name).shard_index].read_matrix(name, mode);
  }

  /// The compressed weights by name.
  [[nodiscard]] const std::vector<compressed_weight>& compressed() const { return compressed_; }
  [[nodiscard]] bool is_compressed(std::string_view name) const {
    return try_find_compressed(name) != nullptr;
  }
  /// @throws qlr::error invalid_argument: no such weight is compressed
  [[nodiscard]] const compressed_weight& find_compressed(std::string_view name) const {
    const compressed_weight* weight = try_find_compressed(name);
    require(weight != nullptr, status_code::invalid_argument, where_, "no compressed weight is named ",
            detail::quote(name), ", it has ", compressed_.size());
    return *weight;
  }
  /// The compressed weight that a tensor is part of, or null.
  [[nodiscard]] const compressed_weight* find_owner(std::string_view name) const {
    for (const std::string_view part : detail::decomposition_names) {
      if (!name.ends_with(part) || name.size() < part.size() + 2) continue;
      const std::string_view before = name.substr(0, name.size() - part.size());
      if (!before.ends_with('.')) continue;
      const compressed_weight* owner = try_find_compressed(before.substr(0, before.size() - 1));
      if (owner != nullptr) return owner;
    }
    return nullptr;
  }
  /// As describe_decomposition.
  ///
  /// @throws qlr::error as find_compressed and describe_decomposition
  [[nodiscard]] decomposition_description describe(std::string_view name) const {
    const compressed_weight& weight = find_compressed(name);
    return describe_decomposition(shards_[weight.shard_index], weight.prefix());
  }
  /// A compressed weight whose codes stay in the mapped file.
  ///
  /// @throws qlr::error as find_compressed and mapped_decomposition
  [[nodiscard]] mapped_decomposition map_decomposition(std::string_view name) const {
    const compressed_weight& weight = find_compressed(name);
    return mapped_decomposition(shards_[weight.shard_index], weight.prefix());
  }
  /// A compressed weight in memory.
  ///
  /// @throws qlr::error as map_decomposition
  [[nodiscard]] decomposition read_decomposition(std::string_view name) const {
    return map_decomposition(name).to_memory();
  }

  /// Gives the memory of a tensor, or of all parts of a compressed weight, back to the system, see
  /// mapped_file::release.
  ///
  /// @throws qlr::error invalid_argument: neither has that name
  void release(std::string_view name) const {
    const compressed_weight* weight = try_find_compressed(name);
    if (weight == nullptr) return shards_[find(name).shard_index].release(name);
    const safetensors_file& file = shards_[weight->shard_index];
    for (const std::string_view part : detail::decomposition_names) {
      const std::string part_name = weight->prefix() + std::string(part);
      if (file.contains(part_name)) file.release(part_name);
    }
  }

private:
  static bool exists(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  }

  /// The index or the only file; notes the folder.
  std::string find_file(const std::string& path) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) {
      const std::string beside = std::filesystem::path(path).parent_path().string();
      folder_ = beside.empty() ? "." : beside;
      return path;
    }
    folder_ = path;
    const std::filesystem::path single = std::filesystem::path(path) / "model.safetensors";
    const std::filesystem::path index = std::filesystem::path(path) / "model.safetensors.index.json";
    const bool has_single = exists(single);
    const bool has_index = exists(index);
    require(has_single || has_index, status_code::io_failure, "folder ", detail::quote(path),
            " has neither model.safetensors nor model.safetensors.index.json");
    require(!has_single || !has_index, status_code::malformed_file, "folder ", detail::quote(path),
            " has both model.safetensors and model.safetensors.index.json; name the one to read");
    return (has_index ? index : single).string();
  }

  void add_shard(const std::string& path) {
    const std::size_t index = shards_.size();
    shards_.emplace_back(path);
    shard_names_.push_back(std::filesystem::path(path).filename().string());
    for (const tensor_info& tensor : shards_.back().tensors())
      tensors_.push_back({tensor.name, index, &tensor});
  }

  void open_shards(const std::string& index_path) {
    has_index_ = true;
    const mapped_file file(index_path);
    const detail::shard_map index = detail::parse_checkpoint_index(file.bytes(), where_);
    std::vector<std::string> names;
    for (const auto& [tensor, shard] : index) names.push_back(shard);
    std::ranges::sort(names);
    names.erase(std::unique(names.begin(), names.end()), names.end());
    for (const std::string& name : names) add_shard((std::filesystem::path(folder_) / name).string());
    for (const checkpoint_tensor& tensor : tensors_) {
      const auto found = index.find(std::string(tensor.name));
      require(found != index.end(), status_code::malformed_file, where_, "tensor ",
              detail::quote(tensor.name), " of ", shard_names_[tensor.shard_index], " is not in the index");
      require(found->second == shard_names_[tensor.shard_index], status_code::malformed_file, where_,
              "tensor ", detail::quote(tensor.name), " is in ", shard_names_[tensor.shard_index],
              ", the index says ", found->second);
    }
    if (tensors_.size() == index.size()) return; // each in its place, so none is missing
    for (const auto& [tensor, shard] : index) {
      const auto at = std::ranges::lower_bound(names, shard) - names.begin();
      require(shards_[static_cast<std::size_t>(at)].contains(tensor), status_code::malformed_file, where_,
              "the index has tensor ", detail::quote(tensor), " in ", shard, ", which does not hold it");
    }
  }

  void sort_by_name() {
    order_by_name_.resize(tensors_.size());
    std::iota(order_by_name_.begin(), order_by_name_.end(), std::size_t{0});
    std::ranges::sort(order_by_name_, {}, [this](std::size_t i) { return name_of(i); });
  }

  void list_compressed(std::size_t shard_index) {
    constexpr std::string_view ending = ".qlr.format";
    const std::map<std::string, std::string>& metadata = shards_[shard_index].metadata();
    const auto format = metadata.find("qlr.format");
    if (format == metadata.end() || format->second != "checkpoint") return;
    const index_t version = detail::metadata_reader(shards_[shard_index]).integer("qlr.version", 1, 1000000);
    require(version == checkpoint_version, status_code::unsupported, where_, "qlr.version is ", version,
            ", this library reads version ", checkpoint_version);
    for (const auto& entry : metadata) {
      const std::string& key = entry.first;
      if (key.size() > ending.size() && key.ends_with(ending))
        compressed_.push_back({key.substr(0, key.size() - ending.size()), shard_index});
    }
  }

  void check_compressed() {
    std::ranges::sort(compressed_, {}, &compressed_weight::name);
    const auto twice = std::ranges::adjacent_find(compressed_, {}, &compressed_weight::name);
    if (twice != compressed_.end()) {
      fail(status_code::malformed_file, where_, "weight ", detail::quote(twice->name), " is compressed in ",
           shard_names_[twice->shard_index], " and in ", shard_names_[std::next(twice)->shard_index]);
    }
    for (const compressed_weight& weight : compressed_) {
      require(!contains(weight.name), status_code::malformed_file, where_, "weight ",
              detail::quote(weight.name), " is compressed and a tensor of its own too");
    }
  }

  [[nodiscard]] std::string_view name_of(std::size_t i) const { return tensors_[i].name; }

  [[nodiscard]] const checkpoint_tensor* try_find(std::string_view name) const {
    const auto found =
        std::ranges::lower_bound(order_by_name_, name, {}, [this](std::size_t i) { return name_of(i); });
    return found != order_by_name_.end() && name_of(*found) == name ? &tensors_[*found] : nullptr;
  }

  [[nodiscard]] const compressed_weight* try_find_compressed(std::string_view name) const {
    const auto found = std::ranges::lower_bound(compressed_, name, {}, &compressed_weight::name);
    return found != compressed_.end() && found->name == name ? &*found : nullptr;
  }

  std::string where_; // start of every message
  std::string folder_;
  bool has_index_ = false;
  std::vector<safetensors_file> shards_;
  std::vector<std::string> shard_names_;
  std::vector<checkpoint_tensor> tensors_;
  std::vector<std::size_t> order_by_name_;
  std::vector<compressed_weight> compressed_;
};

/// "model-00001-of-00003.safetensors" for shard 0 of 3, "model.safetensors" for the only one.
[[nodiscard]] inline std::string shard_file_name(std::size_t shard_index, std::size_t num_shards) {
  if (num_shards == 1) return "model.safetensors";
  const auto five_digits = [](std::size_t number) {
    const std::string digits = std::to_string(number);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return sentence("model-", five_digits(shard_index + 1), "-of-", five_digits(num_shards), ".safetensors");
}

/// Writes an index; the file appears complete or not at all.
///
/// @param shards       the file of each tensor
/// @param total_bytes  of all tensors
/// @throws qlr::error invalid_argument: a name is not UTF-8;  io_failure: the file cannot be written
inline void write_checkpoint_index(const std::string& path, const std::map<std::string, std::string>& shards,
                                   index_t total_bytes) {
  const std::string text = detail::checkpoint_index_text(shards, total_bytes);
  atomic_file file(path);
  file.write(text);
  file.commit();
}

} // namespace qlr::io
