// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include "bitsandbytes_files.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

const std::string weight = "m.weight";

void check_refused(const tensor_set& tensors, status_code code, const std::vector<std::string>& parts) {
  const temporary_directory folder;
  const io::safetensors_file file = write_set(folder, tensors);
  check_error(code, parts, [&] { (void)io::read_bitsandbytes(file, weight); });
}

tensor_set nested_file() {
  return random_file(weight, {3, 100, 64, "nf4", 256}, 1);
}

/// A valid file whose state is this text.
void check_state(const std::string& text, const std::vector<std::string>& parts,
                 status_code code = status_code::malformed_file) {
  CAPTURE(text);
  tensor_set tensors = nested_file();
  set_state(tensors, weight, text);
  check_refused(tensors, code, parts);
}

/// The state of that file with one member replaced; an empty value leaves it out.
std::string state_with(const std::string& member, const std::string& value) {
  const std::vector<std::pair<std::string, std::string>> members{
      {"quant_type", "\"nf4\""}, {"blocksize", "64"},         {"dtype", "\"bfloat16\""},
      {"shape", "[3,100]"},      {"nested_blocksize", "256"}, {"nested_dtype", "\"float32\""},
      {"nested_offset", "0.05"}};
  std::string text;
  for (const auto& [name, usual] : members) {
    const std::string& chosen = name == member ? value : usual;
    if (chosen.empty()) continue;
    text.append(text.empty() ? "{\"" : ",\"").append(name).append("\":").append(chosen);
  }
  return text + "}";
}

} // namespace

TEST_CASE("bitsandbytes: a state that is no such object is refused", "[io]") {
  for (const std::string text : {"", "[]", "{", "5", "{}x", "{\"a\":1e999}", "\xFF"})
    check_state(text, {"not a JSON object"});
  check_state(R"({"a":)" + std::string(1000, '[') + std::string(1000, ']') + "}", {"not a JSON object"});
  check_state(R"({"a":")" + std::string(5000, 'x') + "\"}", {"5008 bytes", "4096"});
  check_state("{}", {"quant_type is missing"});
}

TEST_CASE("bitsandbytes: members outside their range are refused by name", "[io]") {
  const temporary_directory folder;
  tensor_set tensors = nested_file();
  set_state(tensors, weight, state_with("", ""));
  CHECK(io::read_bitsandbytes(write_set(folder, tensors), weight).cols == 100);
  for (const std::string member :
       {"quant_type", "blocksize", "dtype", "shape", "nested_blocksize", "nested_dtype", "nested_offset"}) {
    check_state(state_with(member, ""), {member + " is missing"});
    for (const std::string value : {"null", "{}", "true"}) check_state(state_with(member, value), {member});
  }
  check_state(state_with("quant_type", "\"fp4\""), {"quant_type is 'fp4'", "nf4"});
  for (const std::string value : {"0", "-64", "63", "8192", "64.0", "\"64\"", "18446744073709551680"}) {
    check_state(state_with("blocksize", value), {"blocksize is", "32, 64"});
    check_state(state_with("nested_blocksize", value), {"nested_blocksize is", "32, 64"});
  }
  check_state(state_with("dtype", "\"int8\""), {"'int8'", "bfloat16"});
  check_state(state_with("nested_dtype", "\"float16\""), {"nested_dtype is 'float16'"},
              status_code::unsupported);
  for (const std::string value :
       {"[0,5]", "[3,-100]", "[3.5,100]", "[\"3\",100]", "[18446744073709551619,100]"})
    check_state(state_with("shape", value), {"shape holds"});
  for (const std::string value : {"[4294967296,4294967296]", "[9223372036854775807,1]"})
    check_state(state_with("shape", value), {"too many"});
  for (const std::string value : {"[]", "[300]", "[3,10,10]"})
    check_state(state_with("shape", value), {"dimensions"}, status_code::unsupported);
  check_state(state_with("shape", "[3,101]"), {"has 150 bytes", "303 elements"});
  check_state(state_with("shape", "[1,9000000000000]"), {"bytes"});
  for (const std::string value : {"1e39", "-1e300"})
    check_state(state_with("nested_offset", value), {"nested_offset"});
}

TEST_CASE("bitsandbytes: tensors that are missing or contradict the state are refused", "[io]") {
  for (const std::string part :
       {"", ".absmax", ".quant_map", ".nested_quant_map", ".quant_state.bitsandbytes__nf4"}) {
    CAPTURE(part);
    tensor_set tensors = nested_file();
    tensors.erase(weight + part);
    check_refused(tensors, status_code::malformed_file, {weight + part, "missing"});
  }
  for (const std::string part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) {
    CAPTURE(part);
    tensor_set tensors = nested_file();
    io::owned_tensor& tensor = tensors.at(weight + part);
    const index_t width = io::dtype_bytes(tensor.type);
    tensor.bytes.resize(tensor.bytes.size() + static_cast<std::size_t>(width));
    ++tensor.shape[0];
    check_refused(tensors, status_code::malformed_file, {weight + part, "elements, allowed are"});
    tensors = nested_file();
    io::owned_tensor& other = tensors.at(weight + part);
    other.type = other.type == io::dtype::u8 ? io::dtype::i8 : io::dtype::i32;
    check_refused(tensors, status_code::malformed_file, {weight + part, "type"});
  }
  tensor_set plain = random_file(weight, {3, 100, 64, "nf4"}, 1); // nested only when nested_absmax is there
  put(plain, weight + ".absmax", io::dtype::u8, {5}, std::vector<std::uint8_t>(5));
  check_refused(plain, status_code::malformed_file, {"absmax", "'U8'", "F32"});
  tensor_set both = nested_file();
  set_state(both, weight, "{}", "fp4");
  check_refused(both, status_code::malformed_file, {"both nf4 and fp4"});
  tensor_set state_of_floats = nested_file();
  put(state_of_floats, weight + ".quant_state.bitsandbytes__nf4", io::dtype::f32, {1}, std::vector<float>{1});
  check_refused(state_of_floats, status_code::malformed_file, {"'F32'", "U8"});
  tensor_set cut = nested_file();
  cut.at(weight).bytes.pop_back();
  --cut.at(weight).shape[0];
  check_refused(cut, status_code::malformed_file, {"has 149 bytes"});
  tensor_set longer = nested_file();
  longer.at(weight).bytes.push_back(std::byte{0});
  ++longer.at(weight).shape[0];
  check_refused(longer, status_code::malformed_file, {"has 151 bytes"});
}

TEST_CASE("bitsandbytes: NaN, infinity and other code tables are refused", "[io]") {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const std::string part : {".quant_map", ".nested_absmax", ".nested_quant_map"}) {
      CAPTURE(part, bad);
      tensor_set tensors = nested_file();
      auto values = values_of<float>(tensors.at(weight + part));
      values.back() = bad;
      tensors.at(weight + part).bytes = to_bytes(values);
      check_refused(tensors, status_code::malformed_file, {part, "finite"});
    }
    tensor_set tensors = random_file(weight, {1, 65, 64, "nf4"}, 1);
    put(tensors, weight + ".absmax", io::dtype::f32, {2}, std::vector<float>{1.0F, bad});
    check_refused(tensors, status_code::malformed_file, {"absmax", "finite"});
  }
  tensor_set large = nested_file();
  put(large, weight + ".nested_quant_map", io::dtype::f32, {256}, std::vector<float>(256, 1e30F));
  put(large, weight + ".nested_absmax", io::dtype::f32, {1}, std::vector<float>{1e30F});
  check_refused(large, status_code::malformed_file, {"nested scale of block 0"});
  tensor_set table = nested_file();
  table.at(weight + ".quant_map").bytes = to_bytes(slow_table("fp4"));
  check_refused(table, status_code::unsupported, {"quant_map", "nf4"});
  // Tables that an older version computed differ in the last bits: bitsandbytes ignores that, and so do we.
  tensor_set rounded = random_file(weight, {2, 64, 64, "nf4"}, 1);
  const std::vector<float> expected = slow_decode(rounded, weight);
  std::vector<float> values = slow_table("nf4");
  for (float& value : values) value = std::nextafter(value, 2.0F);
  rounded.at(weight + ".quant_map").bytes = to_bytes(values);
  const temporary_directory folder;
  CHECK(is_same_bits(expected, io::dequantize(io::read_bitsandbytes(write_set(folder, rounded), weight))));
}

TEST_CASE("bitsandbytes: broken weights of 8 bits are refused", "[io]") {
  tensor_set good;
  put(good, weight, io::dtype::i8, {2, 3}, std::vector<std::int8_t>(6, 127));
  put(good, "m.SCB", io::dtype::f32, {2}, std::vector<float>{0.5F, 3.0F});
  put(good, "m.weight_format", io::dtype::u8, {1}, std::vector<std::uint8_t>{0});
  const auto refused = [&](const std::string& name, status_code code, const std::vector<std::string>& parts,
                           const io::owned_tensor* replacement = nullptr) {
    tensor_set tensors = good;
    tensors.erase(name);
    if (replacement != nullptr) put(tensors, *replacement);
    const temporary_directory folder;
    const io::safetensors_file file = write_set(folder, tensors);
    check_error(code, parts, [&] { (void)io::read_bitsandbytes_int8(file, weight); });
  };
  const auto floats = [](const std::vector<float>& values) {
    return io::owned_tensor{"m.SCB", io::dtype::f32, {static_cast<index_t>(values.size())}, to_bytes(values)};
  };
  constexpr auto malformed = status_code::malformed_file;
  refused(weight, malformed, {"m.weight", "missing"});
  refused("m.SCB", malformed, {"m.SCB", "missing"});
  for (const std::vector<float>& values : {std::vector<float>{1, 2, 3}, {1}}) {
    const io::owned_tensor other = floats(values);
    refused("m.SCB", malformed, {"m.SCB", "allowed are 2"}, &other);
  }
  for (const float bad : {NAN, INFINITY}) {
    const io::owned_tensor other = floats({1, bad});
    refused("m.SCB", malformed, {"m.SCB", "finite"}, &other);
  }
  const io::owned_tensor huge = floats({1, std::numeric_limits<float>::max()});
  refused("m.SCB", malformed, {"m.SCB", "decode"}, &huge);
  const io::owned_tensor turing{"m.weight_format", io::dtype::u8, {}, {std::byte{2}}};
  refused("m.weight_format", status_code::unsupported, {"weight_format", "holds 2"}, &turing);
  const io::owned_tensor text{"m.weight_format", io::dtype::i8, {}, {std::byte{0}}};
  refused("m.weight_format", malformed, {"weight_format", "'I8'"}, &text);
  const io::owned_tensor flat{weight, io::dtype::i8, {6}, std::vector<std::byte>(6)};
  refused(weight, malformed, {"[6]", "two dimensions"}, &flat);
  const io::owned_tensor bytes{weight, io::dtype::u8, {2, 3}, std::vector<std::byte>(6)};
  refused(weight, malformed, {"'U8'", "I8"}, &bytes);
}
