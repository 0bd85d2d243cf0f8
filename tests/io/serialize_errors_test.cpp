// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "decompositions.hpp"

#include <qlr/io/serialize.hpp>

#include <functional>
#include <limits>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

made_of double_quantized_parts(factor_storage factors = factor_storage::fp16) {
  made_of what{.format = "uint4", .factors = factors};
  what.options.scales = double_quantized(4, scale_type::bf16, 5);
  return what;
}

using change = std::function<void(file_parts&)>;

/// Saves a decomposition, changes the file, and checks that it is refused in every way of opening it.
void check_refused(const made_of& what, const change& changes, const std::vector<std::string>& parts,
                   status_code code = status_code::malformed_file) {
  const temporary_directory folder;
  const std::string path = folder.file("a.safetensors");
  io::save(path, make_decomposition(what));
  file_parts file(path);
  changes(file);
  file.write(path);
  CAPTURE(parts);
  check_error(code, parts, [&] { (void)io::load(path); });
  check_error(code, parts, [&] { (void)io::decomposition_file(path); });
}

void check_metadata(const made_of& what, const std::string& key, const std::string& value,
                    std::vector<std::string> parts = {}) {
  CAPTURE(key, value);
  parts.push_back(key);
  check_refused(
      what, [&](file_parts& file) { file.metadata.at(key) = value; }, parts);
}

} // namespace

TEST_CASE("load: every metadata entry and every tensor is needed", "[io]") {
  for (const factor_storage storage : {factor_storage::fp32, factor_storage::int8}) {
    const temporary_directory folder;
    io::save(folder.file("a"), make_decomposition(double_quantized_parts(storage)));
    const file_parts whole(folder.file("a"));
    for (const auto& entry : whole.metadata) {
      const std::string& key = entry.first;
      CAPTURE(key);
      check_refused(double_quantized_parts(storage), [&](file_parts& file) { file.metadata.erase(key); },
                    {key, "missing"});
    }
    for (const auto& entry : whole.tensors) {
      const std::string& name = entry.first;
      CAPTURE(name);
      check_refused(double_quantized_parts(storage), [&](file_parts& file) { file.tensors.erase(name); },
                    {name, "missing"});
    }
  }
}

TEST_CASE("load: impossible metadata is refused by name", "[io]") {
  const made_of what = double_quantized_parts(factor_storage::int8);
  check_metadata(what, "qlr.format", "model", {"'model'", "decomposition"});
  for (const char* const value : {"", "x", "nan", "inf", "1e99", "0x1p3", " 1", "1 ", "1,5"}) {
    check_metadata(what, "qlr.scale", value, {"finite number"});
    check_metadata(what, "Q.scale_base", value, {"finite number"});
  }
  check_metadata(what, "qlr.factors", "fp8", {"'fp8'", "fp32, fp16, int8, int4"});
  check_metadata(what, "qlr.factors", "int4", {"L.bits is 8"});
  for (const std::string prefix : {"Q", "L", "R"}) {
    for (const char* const value : {"", "-1", "x", "1.0", "9223372036854775808", "+5"}) {
      check_metadata(what, prefix + ".rows", value, {"allowed are 0 to"});
      check_metadata(what, prefix + ".cols", value, {"allowed are 0 to"});
    }
    for (const char* const value : {"", "-2", "x"}) check_metadata(what, prefix + ".group_size", value);
    for (const char* const value : {"0", "9", "-4", "x"})
      check_metadata(what, prefix + ".bits", value, {"1 to 8"});
    check_metadata(what, prefix + ".order", "random", {"'random'", "lsb_first, msb_first, split_half"});
    check_metadata(what, prefix + ".zeros", "float", {"'float'", "none, integer, real"});
    for (const char* const value : {"", "fp8", "dq:9,fp32,256", "dq:1,fp32,256", "dq:8,fp32,0", "dq:8,e8m0,4",
                                    "dq:8,fp32,-1", "dq:8,fp32,99999999999"}) {
      check_metadata(what, prefix + ".scales", value, {"allowed are fp32, fp16"});
    }
  }
  check_metadata({.format = "int3"}, "Q.order", "split_half", {"3 bits"});
}

TEST_CASE("load: metadata that contradicts the tensors is refused", "[io]") {
  const made_of what = double_quantized_parts();
  const auto with = [&](const char* key, const char* value, const char* part) {
    CAPTURE(key, value);
    check_refused(what, [&](file_parts& file) { file.metadata.at(key) = value; }, {part});
  };
  with("Q.rows", "7", "Q.codes");
  with("Q.rows", "9223372036854775807", "Q.codes");
  with("Q.cols", "72", "Q.codes");
  with("Q.cols", "9223372036854775807", "Q.codes");
  with("Q.bits", "8", "Q.codes");
  with("Q.bits", "2", "Q.codes");
  with("Q.group_size", "1", "Q.scales");
  with("Q.group_size", "-1", "Q.scales");
  with("Q.scales", "dq", "Q.scales");
  with("Q.scales", "dq:4,bf16,2", "Q.supers");
  with("Q.scales", "dq:4,fp16,5", "Q.supers"); // as many bytes, but of another type
  with("Q.scales", "bf16", "Q.scales");
  with("Q.zeros", "real", "Q.zeros");
  with("qlr.factors", "fp32", "L");
  with("qlr.factors", "int8", "L.format");
  check_refused({.format = "int4"}, [](file_parts& file) { file.metadata.at("Q.zeros") = "integer"; },
                {"Q.zeros"});
  // One scale type for another of the same width would decode to other numbers without any other sign.
  check_refused({.format = "int4"}, [](file_parts& file) { file.metadata.at("Q.scales") = "bf16"; },
                {"Q.scales", "F16", "BF16"});
}

TEST_CASE("load: a newer version is unsupported, an impossible one malformed", "[io]") {
  check_refused(
      {}, [](file_parts& file) { file.metadata.at("qlr.version") = "2"; }, {"version is 2", "1"},
      status_code::unsupported);
  for (const char* const value : {"0", "-1", "one", ""}) check_metadata({}, "qlr.version", value);
}

TEST_CASE("load: tensors of another size or type are refused", "[io]") {
  const temporary_directory folder;
  for (const factor_storage storage : {factor_storage::fp16, factor_storage::fp32, factor_storage::int4}) {
    const made_of what = double_quantized_parts(storage);
    io::save(folder.file("a"), make_decomposition(what));
    const file_parts whole(folder.file("a"));
    for (const auto& entry : whole.tensors) {
      const std::string& name = entry.first;
      const file_parts::tensor& tensor = entry.second;
      CAPTURE(name, to_string(storage));
      const auto bytes = static_cast<index_t>(tensor.bytes.size());
      check_refused(what,
                    [&](file_parts& file) {
                      file.tensors.at(name).type = io::dtype::boolean;
                      file.resize(name, bytes);
                    },
                    {name});
      const index_t count = bytes / io::dtype_bytes(tensor.type);
      for (const index_t wrong : {count - 1, count + 1, index_t{0}}) {
        check_refused(what, [&](file_parts& file) { file.resize(name, wrong); }, {name});
      }
    }
  }
}

TEST_CASE("load: factors that do not fit are refused", "[io]") {
  const auto reshape = [](const char* name, std::vector<index_t> shape) {
    return [=](file_parts& file) { file.tensors.at(name).shape = shape; };
  };
  check_refused({}, reshape("L", {3, 6}), {"L is 3 x 6", "R is 3 x 70", "Q is 6 x 70"});
  check_refused({}, reshape("L", {9, 2}), {"L is 9 x 2"});
  check_refused({}, reshape("R", {70, 3}), {"R is 70 x 3"});
  check_refused({}, reshape("R", {1, 3, 70}), {"R has 3 dimensions"});
  check_refused({.factors = factor_storage::int8},
                [](file_parts& file) {
                  for (const char* const part : {".rows", ".cols", ".codes"}) {
                    const auto left = std::string("L") + part;
                    const auto right = std::string("R") + part;
                    if (part[2] == 'o' && part[3] == 'd')
                      std::swap(file.tensors.at(left), file.tensors.at(right));
                    if (part[2] != 'o' || part[3] != 'd')
                      std::swap(file.metadata.at(left), file.metadata.at(right));
                  }
                },
                {"L is 70 x 3", "R is 3 x 6"});
}

TEST_CASE("load: numbers that are not finite are refused", "[io]") {
  for (const float value : {not_a_number, infinity, -infinity}) {
    CAPTURE(value);
    check_refused({}, [&](file_parts& file) { file.put("Q.levels", 5, value); }, {"Q.levels", "finite"});
    const auto half = to_float16(value);
    check_refused({}, [&](file_parts& file) { file.put("Q.scales", 7, half); }, {"scale 7 of Q"});
    check_refused({}, [&](file_parts& file) { file.put("L", 4, half); }, {"element 4 of L"});
    check_refused({}, [&](file_parts& file) { file.put("R", 9, half); }, {"element 9 of R"});
    check_refused({.factors = factor_storage::fp32}, [&](file_parts& file) { file.put("R", 9, value); },
                  {"element 9 of R"});
    const auto brain = to_bfloat16(value); // scales of quantized factors
    check_refused({.factors = factor_storage::int4},
                  [&](file_parts& file) { file.put("L.scales", 1, brain); }, {"scale 1 of L"});
    check_refused({.format = "minmax4"}, [&](file_parts& file) { file.put("Q.zeros", 3, value); },
                  {"scale 3 of Q"});
    check_refused(double_quantized_parts(),
                  [&](file_parts& file) { file.put("Q.supers", 1, to_bfloat16(value)); },
                  {"Q.supers", "entry 1"});
  }
  check_refused({.format = "mxfp4"}, [](file_parts& file) { file.put("Q.scales", 2, std::uint8_t{255}); },
                {"scale 2 of Q"});
  check_refused({.format = "nvfp4"}, [](file_parts& file) { file.put("Q.scales", 2, std::uint8_t{127}); },
                {"scale 2 of Q"});
}

TEST_CASE("load: an empty matrix that claims many rows is refused at once", "[io]") {
  for (const factor_storage storage : {factor_storage::fp16, factor_storage::int8}) {
    check_refused({.factors = storage},
                  [](file_parts& file) {
                    const index_t rows = index_t{1} << 60;
                    for (const std::string prefix : {"Q", "L", "R"}) {
                      const auto found = file.metadata.find(prefix + ".rows");
                      if (found == file.metadata.end()) continue;
                      found->second = std::to_string(rows);
                      file.metadata.at(prefix + ".cols") = "0";
                      file.tensors.at(prefix + ".codes") = {io::dtype::u8, {rows, 0}, {}};
                      file.resize(prefix + ".scales", 0);
                    }
                  },
                  {"Q is 1152921504606846976 x 0", "empty"});
  }
}

TEST_CASE("load: other files are refused", "[io]") {
  const temporary_directory folder;
  check_error(status_code::io_failure, {"missing"}, [&] { (void)io::load(folder.file("missing")); });
  write_file(folder.file("text"), to_bytes("hello, this is no safetensors file"));
  check_error(status_code::malformed_file, {"text"}, [&] { (void)io::load(folder.file("text")); });
  const matrix<float> weight = normal_matrix(3, 4, 1);
  io::write_safetensors(folder.file("weights"),
                        std::vector<io::tensor_entry>{io::make_f32_entry("w", weight.view())});
  check_error(status_code::malformed_file, {"qlr.format"}, [&] { (void)io::load(folder.file("weights")); });
}

TEST_CASE("save: what load would refuse is not written", "[io]") {
  const temporary_directory folder;
  const auto refuse = [&](status_code code, const char* part,
                          const std::function<void(decomposition&)>& change_parts, const made_of& what = {}) {
    decomposition parts = make_decomposition(what);
    change_parts(parts);
    check_error(code, {part}, [&] { io::save(folder.file("a"), parts); });
    CHECK(folder.names().empty());
  };
  refuse(status_code::non_finite, "scale is nan", [](decomposition& parts) { parts.scale = not_a_number; });
  refuse(status_code::non_finite, "L(1, 2)", [](decomposition& parts) { parts.left(1, 2) = not_a_number; });
  refuse(status_code::non_finite, "R(0, 3)", [](decomposition& parts) { parts.right(0, 3) = infinity; });
  refuse(status_code::shape_mismatch, "L is 5 x 3",
         [](decomposition& parts) { parts.left = matrix<float>(5, 3, 0); });
  refuse(status_code::shape_mismatch, "R is 2 x 70",
         [](decomposition& parts) { parts.right = matrix<float>(2, 70, 0); });
  refuse(status_code::invalid_argument, "0.1", [](decomposition& parts) { parts.left(0, 0) = 0.1F; });
  refuse(status_code::invalid_argument, "70000", [](decomposition& parts) { parts.left(0, 0) = 70000.0F; });
  refuse(status_code::invalid_argument, "factor R", [](decomposition& parts) { parts.right(2, 5) *= 1.001F; },
         {.factors = factor_storage::int8});
  refuse(status_code::invalid_argument, "Q is 0 x 0", [](decomposition& parts) { parts.quantized = {}; });
  made_of what{.format = "int4"};
  what.options.scales = scale_format{scale_coding::double_mean, scale_type::fp32, 8, 128};
  refuse(
      status_code::unsupported, "blocks of 128", [](decomposition&) {}, what);
}
