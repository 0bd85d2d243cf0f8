// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <io/support.hpp>
#include <support/catch.hpp>
#include <support/generators.hpp>

#include <qlr/decompose/factor_storage.hpp>
#include <qlr/io/svdquant.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

quantized_matrix quantized_normal(const std::string& format, const format_options& options, index_t rows,
                                  index_t cols) {
  const matrix<float> weight = normal_matrix(rows, cols, 1);
  return make_quantizer(format, options).quantize(weight.view(), {}, {});
}

decomposition make_parts(const std::string& format, index_t rows, index_t cols, index_t rank,
                         factor_storage storage = factor_storage::fp16) {
  format_options options;
  if (format == "int4") options.scales = scale_format{scale_coding::plain, scale_type::bf16};
  decomposition parts;
  parts.quantized = quantized_normal(format, options, rows, cols);
  parts.left = normal_matrix(rows, rank, 2);
  parts.right = normal_matrix(rank, cols, 3);
  parts.factors = storage;
  round_factor(parts.right, storage);
  matrix<float> turned = to_row_major(std::as_const(parts.left).view().transposed());
  round_factor(turned, storage);
  parts.left = to_row_major(std::as_const(turned).view().transposed());
  for (index_t j = 0; j < cols; ++j) parts.input_scales.push_back(0.5F + static_cast<float>(j % 5));
  return parts;
}

std::map<std::string, io::owned_tensor> by_name(const std::vector<io::owned_tensor>& tensors) {
  std::map<std::string, io::owned_tensor> result;
  for (const io::owned_tensor& tensor : tensors) result[tensor.name] = tensor;
  return result;
}

std::string write(const std::vector<io::owned_tensor>& tensors, const std::string& path) {
  std::vector<io::tensor_entry> entries;
  for (const io::owned_tensor& tensor : tensors) entries.push_back(tensor.entry());
  io::write_safetensors(path, entries);
  return path;
}

double number(const io::owned_tensor& tensor, std::size_t i) {
  if (tensor.type == io::dtype::f32) {
    float value = 0;
    std::memcpy(&value, tensor.bytes.data() + 4 * i, 4);
    return static_cast<double>(value);
  }
  std::uint16_t half = 0;
  std::memcpy(&half, tensor.bytes.data() + 2 * i, 2);
  if (tensor.type == io::dtype::bf16)
    return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16U));
  const int exponent = (half >> 10U) & 31;
  const double fraction = half & 1023U;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (half & 0x8000U) != 0 ? -magnitude : magnitude;
}

double e4m3(std::uint8_t byte) {
  const int exponent = (byte >> 3U) & 15;
  const double magnitude =
      exponent == 0 ? std::ldexp(byte & 7, -9) : std::ldexp(8 + (byte & 7), exponent - 10);
  return (byte & 0x80U) != 0 ? -magnitude : magnitude;
}

/// Element (i,j) of the weight by the contract alone: qweight, wscales, wtscale, smooth_factor, proj_up,
/// proj_down.
double element(const std::map<std::string, io::owned_tensor>& m, std::size_t i, std::size_t j,
               std::size_t rows, std::size_t cols, std::size_t rank) {
  const auto byte = std::to_integer<unsigned>(m.at("m.qweight").bytes[(i * cols + j) / 2]);
  const int nibble = static_cast<int>(j % 2 == 0 ? byte & 15U : byte >> 4U);
  double value = 0;
  const io::owned_tensor& scales = m.at("m.wscales");
  if (scales.type == io::dtype::bf16) {
    value = (nibble < 8 ? nibble : nibble - 16) * number(scales, j / 64 * rows + i);
  } else {
    const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    value = (nibble < 8 ? 1 : -1) * magnitudes[nibble % 8] *
            e4m3(std::to_integer<std::uint8_t>(scales.bytes[j / 16 * rows + i])) *
            number(m.at("m.wtscale"), 0);
  }
  value /= number(m.at("m.smooth_factor"), j);
  for (std::size_t k = 0; k < rank; ++k)
    value += number(m.at("m.proj_up"), i * rank + k) * number(m.at("m.proj_down"), j * rank + k);
  return value;
}

} // namespace

TEST_CASE("svdquant: the tensors by their contract are the decomposition", "[io]") {
  for (const std::string format : {"int4", "nvfp4"}) {
    for (const factor_storage storage : {factor_storage::fp16, factor_storage::fp32, factor_storage::int8}) {
      for (const index_t rank : {0, 1, 5}) {
        CAPTURE(format, to_string(storage), rank);
        const decomposition parts = make_parts(format, 7, 192, rank, storage);
        const auto tensors = by_name(io::svdquant_tensors("m", parts));
        CHECK(tensors.at("m.qweight").shape == std::vector<index_t>{7, 96});
        CHECK(tensors.at("m.wscales").shape == std::vector<index_t>{format == "int4" ? 3 : 12, 7});
        CHECK(tensors.contains("m.proj_up") == (rank > 0));
        const matrix<float> q = dequantize(parts.quantized);
        double largest = 0;
        for (index_t i = 0; i < 7; ++i) {
          for (index_t j = 0; j < 192; ++j) {
            double expected = static_cast<double>(q(i, j)) /
                              static_cast<double>(parts.input_scales[static_cast<std::size_t>(j)]);
            for (index_t k = 0; k < rank; ++k)
              expected += static_cast<double>(parts.left(i, k)) * static_cast<double>(parts.right(k, j));
            const double found = element(tensors, static_cast<std::size_t>(i), static_cast<std::size_t>(j), 7,
                                         192, static_cast<std::size_t>(rank));
            largest = std::max(largest, std::abs(found - expected));
          }
        }
        CHECK(largest <= 1e-6); // one rounding to float of values of a few units
      }
    }
  }
}

TEST_CASE("svdquant: what is written is read back bit for bit", "[io]") {
  const temporary_directory folder;
  for (const std::string format : {"int4", "nvfp4"}) {
    for (const index_t rank : {0, 3}) {
      CAPTURE(format, rank);
      decomposition parts = make_parts(format, 5, 128, rank);
      const std::string path = write(io::svdquant_tensors("a.b", parts), folder.file("w.safetensors"));
      const decomposition read = io::read_svdquant(io::safetensors_file(path), "a.b");
      const matrix<float> before = dequantize(parts.quantized);
      const matrix<float> after = dequantize(read.quantized);
      CHECK(std::equal(before.data(), before.data() + before.size(), after.data()));
      CHECK(read.rank() == rank);
      CHECK(std::equal(parts.left.data(), parts.left.data() + parts.left.size(), read.left.data()));
      CHECK(std::equal(parts.right.data(), parts.right.data() + parts.right.size(), read.right.data()));
      CHECK(read.input_scales == parts.input_scales);
    }
  }
}

TEST_CASE("svdquant: s is multiplied into proj_up", "[io]") {
  decomposition parts = make_parts("int4", 3, 64, 2);
  const auto plain = by_name(io::svdquant_tensors("m", parts));
  parts.scale = 0.3F;
  const auto scaled = by_name(io::svdquant_tensors("m", parts));
  for (std::size_t i = 0; i < 6; ++i) {
    const auto expected = static_cast<double>(0.3F * static_cast<float>(number(plain.at("m.proj_up"), i)));
    CHECK(number(scaled.at("m.proj_up"), i) == expected);
  }
  CHECK(scaled.at("m.proj_down").bytes.size() == 2 * plain.at("m.proj_down").bytes.size()); // F32 now
}

TEST_CASE("svdquant: what the format does not hold is refused", "[io]") {
  const decomposition parts = make_parts("int4", 3, 64, 2);
  const auto refuse = [&](const std::string& format, const format_options& options, index_t cols) {
    decomposition other = parts;
    other.quantized = quantized_normal(format, options, 3, cols);
    other.right = normal_matrix(2, cols, 3);
    other.input_scales.clear();
    CAPTURE(format, cols);
    check_error(status_code::unsupported, {"Q is 3 x", "int4 with bf16 scales for groups of 64"},
                [&] { (void)io::svdquant_tensors("m", other); });
  };
  const scale_format bf16{scale_coding::plain, scale_type::bf16};
  refuse("int4", {}, 64); // fp16 scales
  refuse("int4", {32, bf16, false}, 64);
  refuse("int4", {64, bf16, false}, 96); // a short last group
  refuse("int4", {group_per_tensor, bf16, false}, 64);
  refuse("nf4", {64, bf16, false}, 64);
  refuse("uint4", {64, bf16, false}, 64);
  refuse("int3", {64, bf16, false}, 64);
  check_error(status_code::invalid_argument, {"module is ''"},
              [&] { (void)io::svdquant_tensors("", parts); });
}

TEST_CASE("svdquant: files that contradict themselves are refused", "[io]") {
  const temporary_directory folder;
  const auto refuse = [&](status_code code, const std::string& part, auto&& change) {
    auto tensors = by_name(io::svdquant_tensors("m", make_parts("int4", 3, 64, 2)));
    change(tensors);
    std::vector<io::owned_tensor> list;
    for (const auto& [name, tensor] : tensors) list.push_back(tensor);
    const std::string path = write(list, folder.file("w.safetensors"));
    check_error(code, {part}, [&] { (void)io::read_svdquant(io::safetensors_file(path), "m"); });
  };
  constexpr auto malformed = status_code::malformed_file;
  refuse(status_code::invalid_argument, "m.wscales", [](auto& t) { t.erase("m.wscales"); });
  refuse(status_code::invalid_argument, "m.proj_down", [](auto& t) { t.erase("m.proj_down"); });
  refuse(malformed, "BF16 [n/64, m]", [](auto& t) { t["m.wscales"].shape = {3, 1}; });
  refuse(malformed, "two dimensions", [](auto& t) { t["m.qweight"].shape = {96}; });
  refuse(malformed, "proj_up is 2 x 3", [](auto& t) { t["m.proj_up"].shape = {2, 3}; });
  refuse(malformed, "smooth_factor", [](auto& t) { t["m.smooth_factor"].shape = {2, 32}; });
  refuse(malformed, "smooth_factor", [](auto& t) { std::memset(t["m.smooth_factor"].bytes.data(), 0, 4); });
  refuse(malformed, "group 0 of row 0", [](auto& t) { std::memset(t["m.wscales"].bytes.data(), 0xFF, 2); });
  refuse(malformed, "not finite", [](auto& t) { std::memset(t["m.proj_up"].bytes.data(), 0xFF, 2); });
  refuse(status_code::unsupported, "wcscales", [](auto& t) {
    t["m.wcscales"] = t["m.smooth_factor"];
    t["m.wcscales"].name = "m.wcscales";
  });
}
