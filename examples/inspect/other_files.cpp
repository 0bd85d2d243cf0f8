// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <inspect/contents.hpp>

#include <qlr/io/gguf.hpp>
#include <qlr/io/imatrix.hpp>
#include <qlr/io/mapped_file.hpp>
#include <qlr/io/npy.hpp>

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

using qlr::index_t;
using qlr::io::gguf_file;
using qlr::io::gguf_tensor_info;
using qlr::io::gguf_value;

index_t size_of(const std::string& path) {
  return static_cast<index_t>(qlr::io::mapped_file(path).size());
}

/// Texts and numbers; how many elements an array has.
std::string fact_text(const gguf_value& value) {
  if (const auto text = value.text()) return std::string(*text);
  if (const auto integer = value.integer()) return qlr::sentence(*integer);
  if (const auto number = value.number()) return qlr::sentence(*number);
  if (const auto flag = value.boolean()) return *flag ? "true" : "false";
  return qlr::sentence("array of ", value.count());
}

std::string text_of(const gguf_file& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return "";
  return std::string(found->second.text().value_or(""));
}

item describe(const gguf_tensor_info& tensor) {
  item row;
  row.name = tensor.name;
  row.shape = tensor.shape;
  row.format = tensor.type_text;
  row.weights = count_elements(tensor.shape);
  row.bytes = tensor.num_bytes;
  return row;
}

/// One row for NAME.lora_a [r,in] and NAME.lora_b [out,r].
item describe_pair(const std::string& name, const gguf_tensor_info& right, const gguf_tensor_info& left) {
  item row;
  row.name = name;
  row.shape = {left.shape[0], right.shape[1]};
  row.format = "L R";
  row.rank = left.shape[1];
  row.factors = left.type_text == right.type_text ? left.type_text : left.type_text + ", " + right.type_text;
  row.weights = add_up(count_elements(left.shape), count_elements(right.shape));
  row.bytes = left.num_bytes + right.num_bytes;
  return row;
}

std::vector<item> list_adapter(const gguf_file& file) {
  constexpr std::string_view right_ending = ".lora_a";
  std::vector<item> items;
  std::set<std::string> seen;
  for (const gguf_tensor_info& right : file.tensors()) {
    if (!right.name.ends_with(right_ending)) continue;
    const std::string name = right.name.substr(0, right.name.size() - right_ending.size());
    const std::string left_name = name + ".lora_b";
    if (!file.contains(left_name)) continue;
    const gguf_tensor_info& left = file.find(left_name);
    if (left.shape.size() != 2 || right.shape.size() != 2) continue;
    items.push_back(describe_pair(name, right, left));
    seen.insert({right.name, left_name});
  }
  for (const gguf_tensor_info& tensor : file.tensors()) {
    if (!seen.contains(tensor.name)) items.push_back(describe(tensor));
  }
  return items;
}

std::vector<item> list_imatrix(const qlr::io::importance_matrices& matrices) {
  std::vector<item> items;
  for (const qlr::io::imatrix_entry& entry : matrices.entries) {
    item row;
    row.name = entry.name;
    row.shape = {entry.mean_squares.rows(), entry.mean_squares.cols()};
    row.format = entry.means.size() == 0 ? "mean squares" : "mean squares, means";
    double count = 0;
    for (const double expert : entry.counts) count += expert;
    row.note = qlr::sentence("count ", count);
    items.push_back(row);
  }
  for (const qlr::io::imatrix_unusable& entry : matrices.unusable) {
    item row;
    row.name = entry.name;
    row.note = "unusable: " + entry.reason;
    items.push_back(row);
  }
  return items;
}

/// Of an array of numbers, such as "<f4"; the number behind the letter is their size.
index_t count_bytes(const qlr::io::npy_info& array) {
  constexpr std::string_view digits = "0123456789";
  const std::size_t at = array.descr.find_first_of(digits);
  if (at == std::string::npos || array.descr.size() - at > 2) return 0;
  const index_t width = std::stol(array.descr.substr(at));
  std::vector<index_t> extents = array.shape;
  extents.push_back(width);
  return count_elements(extents);
}

} // namespace

contents read_gguf(const std::string& path) {
  const gguf_file file(path);
  contents found;
  const std::string type = text_of(file, "general.type");
  for (const auto& [key, value] : file.metadata()) found.facts.emplace_back(key, fact_text(value));
  found.file_bytes = size_of(path);
  if (type == "imatrix") {
    found.kind = "GGUF importance matrix";
    found.items = list_imatrix(qlr::io::read_imatrix(path));
  } else if (type == "adapter") {
    found.kind = "GGUF adapter";
    found.items = list_adapter(file);
  } else {
    found.kind = "GGUF model";
    for (const gguf_tensor_info& tensor : file.tensors()) found.items.push_back(describe(tensor));
  }
  return found;
}

contents read_plain_imatrix(const std::string& path) {
  const qlr::io::importance_matrices matrices = qlr::io::read_imatrix(path);
  contents found;
  found.kind = "importance matrix";
  found.items = list_imatrix(matrices);
  for (const std::string& name : matrices.datasets) found.facts.emplace_back("dataset", name);
  found.file_bytes = size_of(path);
  return found;
}

contents read_npy(const std::string& path) {
  const qlr::io::npy_info array = qlr::io::read_npy_info(path);
  contents found;
  found.kind = ".npy array";
  found.file_bytes = size_of(path);
  item row;
  row.shape = array.shape;
  row.format = array.descr;
  row.weights = count_elements(array.shape);
  row.bytes = count_bytes(array);
  if (array.is_fortran_order) row.note = "columns one after the other";
  found.items.push_back(row);
  return found;
}
