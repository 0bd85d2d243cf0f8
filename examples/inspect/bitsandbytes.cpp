// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/contents.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <set>
#include <string_view>

// A weight P that bitsandbytes quantized to 4 bits is the tensors
//   P                                        two codes in a byte, the rows one after the other
//   P.absmax                                 F32 scales of blocks, or U8 codes of them (nested)
//   P.quant_map                              F32 [16]: value of each code
//   P.nested_absmax, P.nested_quant_map      nested only: scales and values of the codes of scales
//   P.quant_state.bitsandbytes__nf4, __fp4   JSON text as U8: shape, blocksize, nested_blocksize, ...
// and to 8 bits: P in I8 and its F32 scales of rows, whose name has "SCB" in place of the last "weight".

namespace {

using nlohmann::json;
using qlr::index_t;
using qlr::status_code;
using qlr::io::checkpoint_folder;

constexpr std::string_view state_mark = ".quant_state.bitsandbytes__";

/// "weight" of the tensor "weight.quant_state.bitsandbytes__nf4"; empty for tensors of other names.
std::string_view weight_of_state(std::string_view name) {
  const std::size_t at = name.find(state_mark);
  return at == std::string_view::npos ? std::string_view() : name.substr(0, at);
}

/// "a.weight" of the tensor "a.SCB"; empty for tensors of other names.
std::string weight_of_rows(std::string_view name) {
  constexpr std::string_view ending = "SCB";
  if (!name.ends_with(ending)) return {};
  return std::string(name.substr(0, name.size() - ending.size())) + "weight";
}

/// The JSON object of a quantization state.
class state_reader {
public:
  state_reader(const checkpoint_folder& checkpoint, std::string_view name) : name_(name) {
    constexpr std::size_t most_bytes = 65536;
    const std::span<const std::byte> bytes = checkpoint.bytes(name);
    check(bytes.size() <= most_bytes, "it has ", bytes.size(), " bytes, allowed are at most ", most_bytes);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    values_ = json::parse(text, nullptr, false);
    check(values_.is_object(), "it is not a JSON object");
  }

  [[nodiscard]] index_t size(const char* key) const {
    const auto found = values_.find(key);
    check(found != values_.end() && is_size(*found), key, " is missing or no integer above 0");
    return found->get<index_t>();
  }
  [[nodiscard]] std::vector<index_t> shape() const {
    constexpr std::size_t most_dimensions = 16;
    const auto found = values_.find("shape");
    check(found != values_.end() && found->is_array() && found->size() <= most_dimensions,
          "shape is missing or no array of up to ", most_dimensions, " integers");
    std::vector<index_t> extents;
    for (const json& extent : *found) {
      check(is_size(extent), "shape holds something else than integers above 0");
      extents.push_back(extent.get<index_t>());
    }
    return extents;
  }
  [[nodiscard]] std::string words(const char* key) const {
    const auto found = values_.find(key);
    return found != values_.end() && found->is_string() ? found->get<std::string>() : "";
  }
  [[nodiscard]] bool has(const char* key) const { return values_.contains(key); }

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    qlr::require(condition, status_code::malformed_file, "tensor '", name_, "': ", parts...);
  }

private:
  static bool is_size(const json& value) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() >= 1 &&
           value.get<std::uint64_t>() <= std::uint64_t{1} << 62U;
  }

  std::string name_;
  json values_;
};

/// Notes a tensor that belongs to a weight and adds its bytes.
void take(const checkpoint_folder& checkpoint, const std::string& name, item& row,
          std::set<std::string>& taken) {
  if (!checkpoint.contains(name) || !taken.insert(name).second) return;
  row.bytes += static_cast<index_t>(checkpoint.bytes(name).size());
}

item describe_state(const checkpoint_folder& checkpoint, std::string_view state_name,
                    std::set<std::string>& taken) {
  const state_reader state(checkpoint, state_name);
  item row;
  row.name = weight_of_state(state_name);
  row.format = state.words("quant_type");
  if (row.format.empty()) row.format = state_name.substr(row.name.size() + state_mark.size());
  row.shape = state.shape();
  row.weights = count_elements(row.shape);
  row.group_size = state.size("blocksize");
  row.scales = state.has("nested_blocksize")
                   ? qlr::sentence("8 bits, nested in ", state.size("nested_blocksize"))
                   : "fp32";
  if (!state.words("dtype").empty()) row.note = "of " + state.words("dtype");
  for (const char* const part : {"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    take(checkpoint, row.name + part, row, taken);
  take(checkpoint, std::string(state_name), row, taken);
  state.check(checkpoint.contains(row.name), "the tensor '", row.name, "' is missing");
  const auto found = static_cast<index_t>(checkpoint.bytes(row.name).size());
  state.check(row.weights / 2 + row.weights % 2 == found, "its shape needs ",
              row.weights / 2 + row.weights % 2, " bytes of codes, '", row.name, "' has ", found);
  return row;
}

item describe_rows(const checkpoint_folder& checkpoint, const std::string& name,
                   const std::string& scales_name, std::set<std::string>& taken) {
  item row = describe_tensor(*checkpoint.find(name).info);
  row.format = "int8";
  row.group_size = 0;
  row.scales = "fp32";
  taken.insert(name);
  take(checkpoint, scales_name, row, taken);
  take(checkpoint, name + "_format", row, taken);
  return row;
}

} // namespace

bool has_bitsandbytes(const checkpoint_folder& checkpoint) {
  for (const qlr::io::checkpoint_tensor& tensor : checkpoint.tensors()) {
    if (!weight_of_state(tensor.name).empty()) return true;
    if (const std::string weight = weight_of_rows(tensor.name); checkpoint.contains(weight)) return true;
  }
  return false;
}

std::vector<item> read_bitsandbytes(const checkpoint_folder& checkpoint) {
  std::set<std::string> taken;
  std::vector<item> weights;
  const auto add = [&](item row, const qlr::io::checkpoint_tensor& tensor) {
    if (checkpoint.has_index()) row.file = checkpoint.shard_name(tensor.shard_index);
    weights.push_back(std::move(row));
  };
  for (const qlr::io::checkpoint_tensor& tensor : checkpoint.tensors()) {
    const std::string weight = weight_of_rows(tensor.name);
    if (!weight_of_state(tensor.name).empty()) {
      add(describe_state(checkpoint, tensor.name, taken), tensor);
    } else if (!weight.empty() && checkpoint.contains(weight)) {
      add(describe_rows(checkpoint, weight, std::string(tensor.name), taken), tensor);
    }
  }
  for (const qlr::io::checkpoint_tensor& tensor : checkpoint.tensors()) {
    if (!taken.contains(std::string(tensor.name))) add(describe_tensor(*tensor.info), tensor);
  }
  return weights;
}
