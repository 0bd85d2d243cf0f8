// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/status.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/train/storage.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// A training state is all numbers that change while a model is trained: parameters, the optimizer's moments,
// steps, losses so far. Layers and optimizers have
//
//     template <class Archive> void visit_state(Archive& archive, const std::string& prefix);
//
// which names each of them once: archive.values (a matrix), archive.bytes (a vector of bytes of a fixed
// size), archive.series (a vector of numbers of any length), archive.number (one integer). The same function
// saves and loads; archive.is_loading() tells which, for what is rebuilt from its parts, and
// archive.is_saving() for what can be loaded at any time but not saved. Neither holds while a file is
// checked.
//
// What does not change (W, a fixed Q, the first scales) is no part of a state: it is loaded into what was
// made from the same inputs, and the metadata may say which these were.

namespace qlr::train {

/// Version of the layout of a training state's file.
inline constexpr int state_version = 1;

namespace detail {

template <class T>
[[nodiscard]] constexpr io::dtype dtype_of() {
  if constexpr (std::same_as<T, float>) return io::dtype::f32;
  if constexpr (std::same_as<T, double>) return io::dtype::f64;
  if constexpr (std::same_as<T, bfloat16>) return io::dtype::bf16;
  if constexpr (std::same_as<T, std::int8_t>) return io::dtype::i8;
  if constexpr (std::same_as<T, std::uint8_t>) return io::dtype::u8;
  static_assert(std::same_as<T, index_t> || storage_scalar<T> || std::same_as<T, std::int8_t> ||
                    std::same_as<T, std::uint8_t>,
                "a state holds float, double, bfloat16, int8_t, uint8_t and index_t");
  if constexpr (std::same_as<T, index_t>) return io::dtype::i64;
}

/// Collects copies of all numbers.
class state_saver {
public:
  [[nodiscard]] static bool is_loading() { return false; }
  [[nodiscard]] static bool is_saving() { return true; }

  template <class T>
  void values(const std::string& name, matrix<T>& numbers) {
    add(name, dtype_of<T>(), {numbers.rows(), numbers.cols()},
        std::as_bytes(std::span<const T>(numbers.data(), static_cast<std::size_t>(numbers.size()))));
  }
  void bytes(const std::string& name, std::vector<std::uint8_t>& numbers) { series(name, numbers); }
  template <class T>
  void series(const std::string& name, std::vector<T>& numbers) {
    add(name, dtype_of<T>(), {static_cast<index_t>(numbers.size())},
        std::as_bytes(std::span<const T>(numbers)));
  }
  void number(const std::string& name, index_t& value) {
    add(name, io::dtype::i64, {1}, std::as_bytes(std::span<const index_t>(&value, 1)));
  }

  void write(const std::string& path, std::map<std::string, std::string> metadata) const {
    metadata["qlr.format"] = "training state";
    metadata["qlr.version"] = std::to_string(state_version);
    std::vector<io::tensor_entry> entries;
    for (const owned& tensor : tensors_)
      entries.push_back({tensor.name, tensor.type, tensor.shape, tensor.bytes});
    io::write_safetensors(path, entries, metadata);
  }

private:
  struct owned {
    std::string name;
    io::dtype type;
    std::vector<index_t> shape;
    std::vector<std::byte> bytes;
  };

  void add(const std::string& name, io::dtype type, std::vector<index_t> shape,
           std::span<const std::byte> bytes) {
    tensors_.push_back({name, type, std::move(shape), {bytes.begin(), bytes.end()}});
  }

  std::vector<owned> tensors_;
};

/// Compares what a file holds with what is asked for; changes nothing.
class state_checker {
public:
  state_checker(const io::safetensors_file& file, std::string where)
      : file_(file), where_(std::move(where)) {}

  [[nodiscard]] static bool is_loading() { return false; }
  [[nodiscard]] static bool is_saving() { return false; }

  template <class T>
  void values(const std::string& name, matrix<T>& numbers) {
    check(name, dtype_of<T>(), {numbers.rows(), numbers.cols()});
  }
  void bytes(const std::string& name, std::vector<std::uint8_t>& numbers) {
    check(name, io::dtype::u8, {static_cast<index_t>(numbers.size())});
  }
  template <class T>
  void series(const std::string& name, std::vector<T>& /*numbers*/) {
    const io::tensor_info& tensor = find(name, dtype_of<T>());
    require(tensor.shape.size() == 1, status_code::malformed_file, where_, "tensor ", name, " has ",
            tensor.shape.size(), " dimensions, a series has 1");
  }
  void number(const std::string& name, index_t& /*value*/) { check(name, io::dtype::i64, {1}); }

  /// @throws qlr::error malformed_file: the file holds more than was asked for
  void finish() const {
    for (const io::tensor_info& tensor : file_.tensors()) {
      require(seen_.contains(tensor.name), status_code::malformed_file, where_, "tensor ", tensor.name,
              " belongs to no part of what is trained");
    }
  }

private:
  const io::tensor_info& find(const std::string& name, io::dtype type) {
    require(file_.contains(name), status_code::malformed_file, where_, "no tensor is named ", name);
    const io::tensor_info& tensor = file_.find(name);
    require(tensor.type == type, status_code::malformed_file, where_, "tensor ", name, " is ",
            tensor.dtype_text, ", the state has another type");
    seen_.insert(name);
    return tensor;
  }
  void check(const std::string& name, io::dtype type, const std::vector<index_t>& shape) {
    const io::tensor_info& tensor = find(name, type);
    require(tensor.shape == shape, status_code::malformed_file, where_, "tensor ", name,
            " has another shape than what is trained");
  }

  const io::safetensors_file& file_;
  std::string where_;
  std::set<std::string> seen_;
};

/// Copies the numbers of a file that state_checker has seen.
class state_loader {
public:
  explicit state_loader(const io::safetensors_file& file) : file_(file) {}

  [[nodiscard]] static bool is_loading() { return true; }
  [[nodiscard]] static bool is_saving() { return false; }

  template <class T>
  void values(const std::string& name, matrix<T>& numbers) {
    copy(name, numbers.data());
  }
  void bytes(const std::string& name, std::vector<std::uint8_t>& numbers) { copy(name, numbers.data()); }
  template <class T>
  void series(const std::string& name, std::vector<T>& numbers) {
    numbers.resize(static_cast<std::size_t>(file_.find(name).shape[0]));
    copy(name, numbers.data());
  }
  void number(const std::string& name, index_t& value) { copy(name, &value); }

private:
  void copy(const std::string& name, void* target) const {
    const std::span<const std::byte> bytes = file_.bytes(name);
    if (!bytes.empty()) std::memcpy(target, bytes.data(), bytes.size());
  }

  const io::safetensors_file& file_;
};

} // namespace detail

/// Writes all numbers that `visit(archive)` names to a safetensors file, which appears complete or not at
/// all.
///
/// @param metadata  what else the file is to say, such as the options of the run
/// @throws qlr::error invalid_argument: a name given twice;  io_failure: the file cannot be written
/// @memory a copy of the state
template <class Visit>
void save_state(const std::string& path, Visit&& visit,
                const std::map<std::string, std::string>& metadata = {}) {
  detail::state_saver saver;
  visit(saver);
  saver.write(path, metadata);
}

/// Reads what save_state has written, bit for bit; the file is checked as a whole before a number changes.
///
/// @param check  is given the file's metadata first, and throws where it belongs to another run
/// @throws qlr::error io_failure: the file cannot be read
/// @throws qlr::error malformed_file: no training state, another version, or one of another model or
/// optimizer
template <class Visit, std::invocable<const std::map<std::string, std::string>&> Check>
void load_state(const std::string& path, Visit&& visit, Check&& check) {
  const io::safetensors_file file(path);
  const std::string where = sentence("training state '", path, "': ");
  const auto& metadata = file.metadata();
  const auto format = metadata.find("qlr.format");
  require(format != metadata.end() && format->second == "training state", status_code::malformed_file, where,
          "it is none, its metadata lacks qlr.format = training state");
  const auto version = metadata.find("qlr.version");
  require(version != metadata.end() && version->second == std::to_string(state_version),
          status_code::malformed_file, where, "its version is ",
          version == metadata.end() ? std::string("missing") : version->second, ", this program reads ",
          state_version);
  check(metadata);
  detail::state_checker checker(file, where);
  visit(checker);
  checker.finish();
  detail::state_loader loader(file);
  visit(loader);
}

/// @copydoc load_state
template <class Visit>
void load_state(const std::string& path, Visit&& visit) {
  load_state(path, visit, [](const std::map<std::string, std::string>&) {});
}

} // namespace qlr::train
