// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/io/calibration.hpp>

#include "../support/catch.hpp"
#include "../support/generators.hpp"
#include "gguf_builder.hpp"
#include "imatrix_files.hpp"
#include "support.hpp"

#include <qlr/decompose/metric.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr index_t rows = 3; // of W
constexpr index_t cols = 4;

struct stored_tensor {
  std::vector<index_t> shape;
  std::vector<double> values;
  io::dtype type = io::dtype::f32;
};

/// Writes tensors as a safetensors file and loads the calibration of a (rows,cols) matrix from it.
class calibration_files {
public:
  calibration_data load(const std::map<std::string, stored_tensor>& tensors) const {
    std::vector<byte_vector> contents;
    std::vector<io::tensor_entry> entries;
    contents.reserve(tensors.size());
    for (const auto& [name, tensor] : tensors) {
      contents.push_back(tensor.type == io::dtype::f64
                             ? to_bytes(tensor.values)
                             : to_bytes(std::vector<float>(tensor.values.begin(), tensor.values.end())));
      entries.push_back({name, tensor.type, tensor.shape, contents.back()});
    }
    io::write_safetensors(directory_.file("c.safetensors"), entries);
    return io::load_calibration(directory_.file("c.safetensors"), rows, cols, "w");
  }

  calibration_data load(const std::string& name, const byte_vector& contents,
                        std::string_view tensor_name = "w") const {
    write_file(directory_.file(name), contents);
    return io::load_calibration(directory_.file(name), rows, cols, tensor_name);
  }

  calibration_data load_npy(const matrix<float>& x) const {
    io::write_npy(directory_.file("c.npy"), x.view());
    return io::load_calibration(directory_.file("c.npy"), rows, cols, "w");
  }

private:
  temporary_directory directory_;
};

std::vector<double> identity() {
  return {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
}

/// The identity with two elements replaced.
stored_tensor covariance_with(index_t i, index_t j, double value, double mirrored) {
  stored_tensor result{{cols, cols}, identity(), io::dtype::f64};
  result.values[static_cast<std::size_t>(i * cols + j)] = value;
  result.values[static_cast<std::size_t>(j * cols + i)] = mirrored;
  return result;
}

void check_note(const calibration_data& data, const std::string& part) {
  REQUIRE(data.notes.size() == 1);
  CAPTURE(data.notes[0]);
  CHECK(data.notes[0].find(part) != std::string::npos);
}

} // namespace

TEST_CASE("load_calibration: every tensor of a safetensors file has its place", "[io][host]") {
  const calibration_files files;
  const calibration_data data = files.load({{"X", {{2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}}},
                                            {"abs_mean", {{4}, {1, 2, 3, 4}}},
                                            {"rms", {{1, 4}, {2, 3, 4, 5}}},
                                            {"covariance", covariance_with(1, 2, 0.1, 0.1)},
                                            {"fisher", {{3, 4}, std::vector<double>(12, 0.5)}},
                                            {"other", {{1}, {1}}}});
  CHECK(data.activations(1, 2) == 7);
  CHECK(data.mean_abs == std::vector<float>{1, 2, 3, 4});
  CHECK(data.rms == std::vector<float>{2, 3, 4, 5});
  CHECK(data.covariance(1, 2) == 0.1); // not rounded to float
  CHECK(data.fisher(2, 3) == 0.5F);
  CHECK(data.largest.empty());
  CHECK(data.notes.empty());
  const calibration_data in_float = files.load({{"covariance", {{4, 4}, identity()}}});
  CHECK(in_float.covariance(3, 3) == 1);
  CHECK(in_float.activations.size() == 0);
}

TEST_CASE("load_calibration: activations of a npy file, one token is enough", "[io][host]") {
  const calibration_files files;
  CHECK(files.load_npy(matrix<float>(5, cols, 2.0F)).activations.rows() == 5);
  CHECK(files.load_npy(matrix<float>(1, cols, 2.0F)).activations.rows() == 1);
  CHECK(files.load({{"X", {{4}, {1, 2, 3, 4}}}}).activations.rows() == 1);
}

TEST_CASE("load_calibration: wrong shapes are refused in a sentence", "[io][host]") {
  const calibration_files files;
  const auto refuses = [&](const std::map<std::string, stored_tensor>& tensors, const std::string& part) {
    check_error(status_code::shape_mismatch, {"c.safetensors", part}, [&] { (void)files.load(tensors); });
  };
  check_error(status_code::shape_mismatch, {"c.npy", "X is 2 x 5, the weight matrix has 4 columns"},
              [&] { (void)files.load_npy(matrix<float>(2, 5, 1.0F)); });
  refuses({{"X", {{4, 2}, std::vector<double>(8, 1)}}}, "X is 4 x 2, the weight matrix has 4 columns");
  refuses({{"rms", {{3}, {1, 2, 3}}}}, "rms has shape [3], the weight matrix has 4 columns");
  refuses({{"rms", {{4, 1}, {1, 2, 3, 4}}}}, "rms has shape [4, 1]");
  refuses({{"abs_mean", {{2, 4}, std::vector<double>(8, 1)}}}, "abs_mean has shape [2, 4]");
  refuses({{"covariance", {{3, 4}, std::vector<double>(12, 1)}}}, "covariance is 3 x 4, it must be 4 x 4");
  refuses({{"covariance", {{5, 5}, std::vector<double>(25, 1), io::dtype::f64}}}, "covariance is 5 x 5");
  refuses({{"fisher", {{4, 3}, std::vector<double>(12, 1)}}}, "fisher is 4 x 3, the weight matrix is 3 x 4");
  check_error(status_code::unsupported, {"shape [1, 2, 4]"}, [&] {
    (void)files.load({{"X", {{1, 2, 4}, std::vector<double>(8, 1)}}});
  });
}

TEST_CASE("load_calibration: numbers that cannot be are refused with their index", "[io][host]") {
  const calibration_files files;
  const auto refuses = [&](status_code code, const std::map<std::string, stored_tensor>& tensors,
                           const std::string& part) {
    check_error(code, {"c.safetensors", part}, [&] { (void)files.load(tensors); });
  };
  for (const float value : {nan_value, infinity, -infinity}) {
    const auto bad = static_cast<double>(value);
    constexpr auto code = status_code::non_finite;
    refuses(code, {{"X", {{1, 4}, {1, 2, bad, 4}}}}, "X(0, 2) is ");
    refuses(code, {{"rms", {{4}, {1, bad, 3, 4}}}}, "rms[1] is ");
    refuses(code, {{"abs_mean", {{4}, {1, 2, 3, bad}}}}, "abs_mean[3] is ");
    refuses(code, {{"covariance", covariance_with(1, 3, bad, bad)}}, "covariance(1, 3) is ");
    refuses(code, {{"fisher", {{3, 4}, {1, 1, 1, 1, 1, bad, 1, 1, 1, 1, 1, 1}}}}, "fisher(1, 1) is ");
  }
  constexpr auto code = status_code::invalid_argument;
  refuses(code, {{"rms", {{4}, {1, 2, -3, 4}}}}, "rms[2] is -3, it must be >= 0");
  refuses(code, {{"abs_mean", {{4}, {1, 2, 3, -1e-30}}}}, "abs_mean[3] is -1e-30");
  refuses(code, {{"fisher", {{3, 4}, {1, 1, 1, 1, 1, 1, 1, 1, -2, 1, 1, 1}}}}, "fisher(2, 0) is -2");
  refuses(code, {{"covariance", covariance_with(2, 2, -0.5, -0.5)}}, "covariance(2, 2) is -0.5");
}

TEST_CASE("load_calibration: a covariance is symmetric up to rounding or refused", "[io][host]") {
  const calibration_files files;
  check_error(status_code::invalid_argument, {"covariance is not symmetric: (0, 3) is 0.25, (3, 0) is 0.2"},
              [&] {
                (void)files.load({{"covariance", covariance_with(0, 3, 0.25, 0.2)}});
              });
  check_error(status_code::invalid_argument, {"not symmetric"}, [&] {
    (void)files.load({{"covariance", covariance_with(0, 3, 0.25, 0.2499989)}});
  });
  check_error(status_code::invalid_argument, {"covariance(2, 1) is 1.5, larger than every diagonal entry"},
              [&] {
                (void)files.load({{"covariance", covariance_with(1, 2, 1.5, 1.5)}});
              });
  const matrix<double> rounded =
      files.load({{"covariance", covariance_with(0, 3, 0.25, 0.2499991)}}).covariance;
  CHECK(rounded(0, 3) == rounded(3, 0));
  CHECK(rounded(0, 3) == Approx(0.24999955).epsilon(1e-12));
  const matrix<double> floored = files.load({{"covariance", covariance_with(2, 2, -9e-7, -9e-7)}}).covariance;
  CHECK(floored(2, 2) == 0);
  check_error(status_code::invalid_argument, {"covariance(2, 2) is -1.1e-06"}, [&] {
    (void)files.load({{"covariance", covariance_with(2, 2, -1.1e-6, -1.1e-6)}});
  });
  stored_tensor no_diagonal{{4, 4}, std::vector<double>(16)};
  no_diagonal.values[1] = no_diagonal.values[4] = 1;
  check_error(status_code::invalid_argument, {"covariance(1, 0) is 1"}, [&] {
    (void)files.load({{"covariance", no_diagonal}});
  });
}

TEST_CASE("load_calibration: what is all zero is left out with a note", "[io][host]") {
  const calibration_files files;
  const calibration_data from_npy = files.load_npy(matrix<float>(3, cols, 0.0F));
  CHECK(from_npy.is_empty());
  check_note(from_npy, "X is all zero: it is left out");
  const std::map<std::string, std::vector<index_t>> shapes = {
      {"X", {2, 4}}, {"abs_mean", {4}}, {"rms", {4}}, {"covariance", {4, 4}}, {"fisher", {3, 4}}};
  for (const auto& [name, shape] : shapes) {
    const index_t size = shape[0] * (shape.size() == 2 ? shape[1] : 1);
    const calibration_data data =
        files.load({{name, {shape, std::vector<double>(static_cast<std::size_t>(size), -0.0)}}});
    CHECK(data.is_empty());
    check_note(data, "c.safetensors': " + name + " is all zero");
  }
}

TEST_CASE("load_calibration: one input that is always zero stays finite in a metric", "[io][host]") {
  const calibration_files files;
  std::vector<float> rms = files.load({{"rms", {{4}, {1, 0, 2, 3}}}}).rms;
  CHECK(rms[1] == 0);
  for (float& value : rms) value *= value;
  const metric weights = make_metric({}, rms, rows, cols);
  for (const float weight : weights.col_weights) CHECK((is_finite(weight) && weight > 0));
}

TEST_CASE("load_calibration: a file without any of its tensors is refused", "[io][host]") {
  const calibration_files files;
  check_error(status_code::invalid_argument, {"it has no elements of X, abs_mean, rms, covariance, fisher"},
              [&] {
                (void)files.load({{"x", {{1}, {1}}}});
              });
  check_error(status_code::invalid_argument, {"it has no elements of X"}, [&] {
    (void)files.load({{"X", {{0, 4}, {}}}});
  });
  check_error(status_code::invalid_argument, {"c.npy", "it has no elements"},
              [&] { (void)files.load_npy(matrix<float>(0, cols)); });
  check_error(status_code::invalid_argument, {"c.txt", "allowed are names ending in .npy, .safetensors"},
              [&] { (void)files.load("c.txt", to_bytes("x")); });
  check_error(status_code::io_failure, {"missing.dat"},
              [] { (void)io::load_calibration("/missing.dat", rows, cols, "w"); });
}

TEST_CASE("load_calibration: a raw vector and both forms of an importance matrix give the same weights",
          "[io][host]") {
  const calibration_files files;
  random_source random(3);
  // Squares of small multiples of 1/8 are exact, and so is their product with a power of two and back: the
  // bits must agree. The other counts leave one rounding of the product and one of the quotient.
  for (const std::int32_t count : {1, 64, 4096, 3, 777}) {
    std::vector<float> rms;
    std::vector<float> stored;
    for (index_t j = 0; j < cols; ++j) {
      const auto value = static_cast<float>(1 + random.below(2000)) * 0.125F;
      rms.push_back(value);
      stored.push_back(value * value * static_cast<float>(count));
    }
    gguf_builder builder;
    add_imatrix_tensors(builder, "w", stored, {static_cast<float>(count)});
    const calibration_data raw = files.load({{"rms", {{4}, {rms.begin(), rms.end()}}}});
    const calibration_data gguf = files.load("c.gguf", builder.build());
    const calibration_data plain = files.load("c.dat", plain_imatrix({{"w", count, stored}}));
    CHECK(raw.rms == rms);
    CHECK(gguf.rms == plain.rms);
    CHECK(gguf.notes.empty());
    for (std::size_t j = 0; j < rms.size(); ++j) {
      const bool is_exact = (count & (count - 1)) == 0;
      CHECK(std::abs(gguf.rms[j] - rms[j]) <= (is_exact ? 0.0F : 1.2e-7F * rms[j]));
    }
  }
}

TEST_CASE("load_calibration: a tensor without usable entry falls back to unweighted and says why",
          "[io][host]") {
  const calibration_files files;
  const byte_vector contents =
      plain_imatrix({{"v", 2, {1, 2, 3, 4}}, {"unseen", 0, {0, 0, 0, 0}}, {"zero", 3, {0, 0, 0, 0}}});
  const auto note_of = [&](std::string_view name, const std::string& part) {
    const calibration_data data = files.load("c.imatrix", contents, name);
    CHECK(data.is_empty());
    check_note(data, part);
    check_note(data, "errors fall back to unweighted");
  };
  note_of("w", "it has no entry 'w' among 3");
  note_of("unseen", "entry 'unseen' is not usable: its count is 0");
  note_of("zero", "entry 'zero' is not usable: all its values are zero");
  CHECK_FALSE(files.load("c.imatrix", contents, "v").is_empty());
  check_error(status_code::shape_mismatch, {"entry 'w' has 3 values, the weight matrix has 4 columns"}, [&] {
    (void)files.load("c.dat", plain_imatrix({{"w", 2, {1, 2, 3}}}));
  });
  check_error(status_code::non_finite, {"entry 'v'", "value(0, 1) is nan"}, [&] {
    (void)files.load("c.dat", plain_imatrix({{"v", 2, {1, nan_value, 3, 4}}}));
  });
}

TEST_CASE("load_calibration: an importance matrix is also searched by the name that GGUF files use",
          "[io][host]") {
  const calibration_files files;
  const std::string checkpoint = "model.layers.12.self_attn.o_proj.weight";
  const plain_entry mapped{"blk.12.attn_output.weight", 1, {1, 4, 9, 16}};
  const plain_entry exact{checkpoint, 1, {4, 4, 4, 4}};
  const std::vector<float> mapped_rms = {1, 2, 3, 4};
  const std::vector<float> exact_rms = {2, 2, 2, 2};
  CHECK(files.load("c.dat", plain_imatrix({mapped}), checkpoint).rms == mapped_rms);
  CHECK(files.load("c.dat", plain_imatrix({mapped, exact}), checkpoint).rms == exact_rms);
  // An entry of that very name that is not usable is not replaced by another.
  const plain_entry unseen{checkpoint, 0, {0, 0, 0, 0}};
  CHECK(files.load("c.dat", plain_imatrix({mapped, unseen}), checkpoint).is_empty());
  const plain_entry output{"output.weight", 1, {1, 4, 9, 16}};
  CHECK(files.load("c.dat", plain_imatrix({output}), "lm_head.weight").rms == mapped_rms);
  for (const char* const other : {"model.layers.x.mlp.up_proj.weight", "model.layers.12.mlp.weight",
                                  "model.layers..mlp.up_proj.weight", "model.layers.", "12"}) {
    CHECK(files.load("c.dat", plain_imatrix({mapped}), other).is_empty());
  }
}

TEST_CASE("load_calibration: experts are averaged over their tokens, those without are left out",
          "[io][host]") {
  const calibration_files files;
  gguf_builder builder;
  add_imatrix_tensors(builder, "w", {2, 2, 2, 2, 30, 62, 126, 6, 0, 0, 0, 0}, {1, 3, 0});
  const calibration_data data = files.load("c.gguf", builder.build());
  for (index_t j = 0; j < cols; ++j) {
    const double mean = (2 + std::vector<double>{30, 62, 126, 6}[static_cast<std::size_t>(j)]) / 4;
    CHECK(data.rms[static_cast<std::size_t>(j)] == Approx(std::sqrt(mean)).epsilon(1e-6));
  }
  REQUIRE(data.notes.size() == 2);
  CHECK(data.notes[0].find("entry 'w' holds 3 experts") != std::string::npos);
  CHECK(data.notes[1].find("expert 2: its count is 0") != std::string::npos);
  const calibration_data stacked = files.load("c.dat", plain_imatrix({{"w", 2, {2, 2, 2, 2, 6, 6, 6, 14}}}));
  CHECK(stacked.rms[0] == Approx(std::sqrt(2.0)).epsilon(1e-6));
  CHECK(stacked.rms[3] == 2);
}
