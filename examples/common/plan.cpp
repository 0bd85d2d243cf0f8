// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/plan.hpp>
#include <common/text.hpp>

#include <qlr/core/status.hpp>
#include <qlr/io/mapped_file.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string_view>

namespace {

using nlohmann::json;
using qlr::index_t;
using qlr::status_code;

json read_json(const std::string& path, const char* what) {
  const qlr::io::mapped_file file(path);
  const auto bytes = file.bytes();
  json value = json::parse(reinterpret_cast<const char*>(bytes.data()),
                           reinterpret_cast<const char*>(bytes.data()) + bytes.size(), nullptr, false);
  qlr::require(value.is_object(), status_code::malformed_file, what, " '", path, "' is not a JSON object");
  return value;
}

/// Reads the keys of one tensor; every message names the file and the tensor.
class entry_reader {
public:
  entry_reader(const json& values, std::string where) : values_(values), where_(std::move(where)) {
    check(values.is_object(), "is not an object");
  }

  [[nodiscard]] std::string text(const char* key) const {
    const auto found = values_.find(key);
    check(found != values_.end() && found->is_string(), "has no text '", key, "'");
    return found->get<std::string>();
  }
  [[nodiscard]] index_t number(const char* key, index_t least, index_t most) const {
    const auto found = values_.find(key);
    check(found != values_.end() && found->is_number_integer(), "has no whole number '", key, "'");
    // An unsigned number beyond 2^63 - 1 would come out negative.
    const bool is_huge =
        found->is_number_unsigned() && found->get<std::uint64_t>() > static_cast<std::uint64_t>(most);
    const index_t value = is_huge ? most : found->get<index_t>();
    check(!is_huge && value >= least && value <= most, key, " is ", found->dump(), ", allowed are ", least,
          " to ", most);
    return value;
  }

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    qlr::require(condition, status_code::malformed_file, where_, parts...);
  }

private:
  const json& values_;
  std::string where_;
};

planned_tensor read_tensor(const entry_reader& entry) {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  planned_tensor result;
  result.rows = entry.number("rows", 1, most);
  result.cols = entry.number("cols", 1, most);
  result.choice.quantizer = entry.text("quantizer");
  const qlr::format_description& format = qlr::find_format(result.choice.quantizer);
  const index_t group = entry.number("group_size", qlr::group_per_tensor, most);
  const qlr::scale_format scales = qlr::parse_scale_format(entry.text("scale"));
  if (!format.is_fixed) {
    result.choice.format.group_size = group;
    result.choice.format.scales = scales;
  }
  result.choice.rank = entry.number("rank", 0, std::min(result.rows, result.cols));
  result.choice.factors = qlr::factor_storage_of_bits(static_cast<int>(entry.number("factor_bits", 4, 32)));
  return result;
}

} // namespace

const qlr::compression_choice& plan::find(const std::string& name, index_t rows, index_t cols) const {
  const auto found = tensors.find(name);
  qlr::require(found != tensors.end(), status_code::invalid_argument, "plan '", path, "' has no tensor '",
               name, "', it must name every linear layer");
  const planned_tensor& tensor = found->second;
  qlr::require(tensor.rows == rows && tensor.cols == cols, status_code::shape_mismatch, "plan '", path,
               "': tensor '", name, "' is ", tensor.rows, " x ", tensor.cols, ", the model has ", rows, " x ",
               cols);
  return tensor.choice;
}

plan read_plan(const std::string& path) {
  const json values = read_json(path, "plan");
  const auto tensors = values.find("tensors");
  qlr::require(tensors != values.end() && tensors->is_array(), status_code::malformed_file, "plan '", path,
               "' has no list 'tensors'");
  plan result;
  result.path = path;
  for (const json& value : *tensors) {
    const std::string where = qlr::sentence("plan '", path, "': tensor ", result.tensors.size(), ' ');
    const entry_reader entry(value, where);
    const std::string name = entry.text("name");
    entry.check(!result.tensors.contains(name), "is a second '", name, "'");
    try {
      result.tensors[name] = read_tensor(entry);
    } catch (const qlr::error& failure) {
      if (std::string_view(failure.what()).starts_with("plan ")) throw;
      qlr::fail(status_code::malformed_file, where, failure.what());
    }
  }
  return result;
}

std::map<std::string, double> read_weights(const std::string& path) {
  std::map<std::string, double> weights;
  const json values = read_json(path, "weights file");
  for (const auto& [name, value] : values.items()) {
    const double weight = value.is_number() ? value.get<double>() : -1.0;
    qlr::require(weight > 0 && qlr::is_finite(weight), status_code::malformed_file, "weights file '", path,
                 "': the weight of '", name, "' is not a positive number");
    weights[name] = weight;
  }
  return weights;
}
