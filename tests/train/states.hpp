// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/matrix.hpp>
#include <qlr/core/types.hpp>

#include <io/support.hpp>
#include <support/generators.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qlr::test {

/// A training state with numbers of every type that one may have.
struct some_state {
  matrix<float> floats{3, 4};
  matrix<double> doubles{2, 2};
  matrix<bfloat16> halves{1, 5};
  matrix<std::int8_t> integers{2, 3};
  matrix<float> empty{0, 4};
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(9);
  std::vector<double> losses = std::vector<double>(6);
  std::vector<index_t> seen = std::vector<index_t>(2);
  index_t step = 0;

  explicit some_state(std::uint64_t seed) {
    random_source random(seed);
    const auto fill = [&](auto* numbers, index_t count) {
      const auto bytes = std::as_writable_bytes(std::span(numbers, static_cast<std::size_t>(count)));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.word() >> 56U);
    };
    fill(floats.data(), floats.size());
    fill(doubles.data(), doubles.size());
    fill(halves.data(), halves.size());
    fill(integers.data(), integers.size());
    fill(codes.data(), static_cast<index_t>(codes.size()));
    for (double& loss : losses) loss = random.uniform();
    fill(seen.data(), static_cast<index_t>(seen.size()));
    fill(&step, 1);
  }

  template <class Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    archive.values(prefix + "floats", floats);
    archive.values(prefix + "doubles", doubles);
    archive.values(prefix + "halves", halves);
    archive.values(prefix + "integers", integers);
    archive.values(prefix + "empty", empty);
    archive.bytes(prefix + "codes", codes);
    archive.series(prefix + "losses", losses);
    archive.series(prefix + "seen", seen);
    archive.number(prefix + "step", step);
  }

  /// Every bit of every number, lengths included.
  [[nodiscard]] byte_vector bits() const {
    byte_vector all;
    const auto append = [&](const auto& numbers) {
      const auto bytes = std::as_bytes(numbers);
      all = all + byte_vector(bytes.begin(), bytes.end()) + to_bytes(std::vector<std::size_t>{bytes.size()});
    };
    const auto append_matrix = [&](const auto& numbers) {
      append(std::span(numbers.data(), static_cast<std::size_t>(numbers.size())));
    };
    append_matrix(floats);
    append_matrix(doubles);
    append_matrix(halves);
    append_matrix(integers);
    append_matrix(empty);
    append(std::span(codes));
    append(std::span(losses));
    append(std::span(seen));
    append(std::span(&step, 1));
    return all;
  }
};

} // namespace qlr::test
