// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// Instruction sets: which there are, and that all give the same bits. Small enough for an emulated machine.
#include <qlr/matmul.hpp>

#include <qlr/quant/formats.hpp>

#include <support/catch.hpp>
#include <support/generators.hpp>
#include <support/matmul.hpp>
#include <support/oracles.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr index_t most_rank = 7;

std::string available_names() {
  std::string names;
  for (const isa set : all_isas) {
    if (is_available(set)) names += sentence(names.empty() ? "" : " ", to_string(set));
  }
  return names;
}

/// The value of an environment variable for the life of this object.
class environment_value {
public:
  environment_value(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name); old != nullptr) old_ = old;
    set(value);
  }
  environment_value(const environment_value&) = delete;
  environment_value& operator=(const environment_value&) = delete;
  ~environment_value() { set(old_ ? old_->c_str() : nullptr); }

private:
  void set(const char* value) const {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }

  const char* name_;
  std::optional<std::string> old_;
};

/// The same codes and scales with levels that are not evenly spaced.
quantized_matrix with_uneven_levels(const quantized_matrix& q) {
  std::vector<float> levels = q.levels();
  for (float& level : levels) level *= std::fabs(level) / 100;
  return {"uneven", q.layout(), levels, q.codes(), q.scales(), q.zeros()};
}

/// The same scales with one code everywhere, given as a byte of codes.
quantized_matrix with_codes(const quantized_matrix& q, std::uint8_t byte) {
  return {"constant", q.layout(), q.levels(), std::vector<std::uint8_t>(q.codes().size(), byte),
          q.scales(), q.zeros()};
}

/// A factor as fp16, bf16, fp32 or int8 holds it.
matrix<float> factor(index_t rows, index_t cols, std::uint64_t seed, index_t type) {
  matrix<float> out = normal_matrix(rows, cols, seed);
  for (index_t i = 0; i < out.size(); ++i) {
    float& value = out.data()[i];
    if (type == 0) value = to_float(to_float16(value));
    if (type == 1) value = to_float(to_bfloat16(value * 1e-7F)); // smaller than fp16 goes
    if (type == 3) value = std::nearbyint(std::clamp(value, -3.0F, 3.0F) * 40) * 0.125F;
  }
  return out;
}

struct shape {
  index_t rows, cols, rank, tokens;
};
constexpr shape shapes[] = {{1, 1, 0, 1},    {3, 65, 7, 2},   {17, 63, 7, 3},
                            {33, 100, 0, 4}, {16, 129, 7, 7}, {70, 40, 1, 9}};

/// One product with two adapters, the tokens taking turns between them and none.
struct problem {
  quantized_matrix q;
  std::array<matrix<float>, 3> left; // of the base and of both adapters
  std::array<matrix<float>, 3> right;

  problem(quantized_matrix matrix, index_t rank) : q(std::move(matrix)) {
    for (std::size_t i = 0; i < left.size(); ++i) {
      const index_t own = i == 0 ? rank : i == 1 ? most_rank : 3;
      left[i] = factor(q.rows(), own, 10 + i, static_cast<index_t>(i));
      right[i] = factor(own, q.cols(), 20 + i, i == 2 ? 3 : static_cast<index_t>(i));
    }
  }

  static std::int32_t adapter_of(index_t token) { return static_cast<std::int32_t>(token % 3) - 1; }

  /// Y on one instruction set.
  [[nodiscard]] matrix<float> multiply(const matrix<float>& x, precision mode, isa set) const {
    const packed_weights packed = prepack(q.view(), left[0].view(), right[0].view(), 0.5F, set);
    CHECK(packed.instruction_set() == set);
    const packed_factors first = prepack_factors(left[1].view(), right[1].view(), 2.0F, set);
    const packed_factors second = prepack_factors(left[2].view(), right[2].view(), 1.0F, set);
    const std::array<const packed_factors*, 2> adapters{&first, &second};
    std::vector<std::int32_t> ids;
    for (index_t t = 0; t < x.rows(); ++t) ids.push_back(adapter_of(t));
    matrix<float> y(x.rows(), q.rows(), not_a_number);
    matmul(packed, x.view(), y.view(), {.mode = mode, .adapters = adapters, .adapter_of_token = ids.data()});
    return y;
  }

  /// s L R x of the base (0) or of an adapter, for one output.
  [[nodiscard]] double low_rank(std::size_t which, double scale, const float* x, index_t row) const {
    double sum = 0;
    for (index_t k = 0; k < right[which].rows(); ++k) {
      for (index_t j = 0; j < q.cols(); ++j) {
        sum += scale * static_cast<double>(left[which](row, k)) * static_cast<double>(right[which](k, j)) *
               static_cast<double>(x[j]);
      }
    }
    return sum;
  }

  /// True when Y is what the definition says up to coarse rounding; matmul_test.cpp holds the bounds.
  [[nodiscard]] bool is_near(const matrix<float>& x, const matrix<float>& y, precision mode) const {
    const matrix<float> decoded = dequantize(q);
    const double tolerance = mode == precision::int8 ? 2e-2 : mode == precision::bf16 ? 5e-4 : 1e-5;
    bool result = true;
    for (index_t t = 0; t < x.rows(); ++t) {
      for (index_t i = 0; i < q.rows(); ++i) {
        double value = low_rank(0, 0.5, &x(t, 0), i);
        const std::int32_t id = adapter_of(t);
        if (id == 0) value += low_rank(1, 2.0, &x(t, 0), i);
        if (id == 1) value += low_rank(2, 1.0, &x(t, 0), i);
        double size = 0.01 * std::fabs(value) + 1;
        for (index_t j = 0; j < q.cols(); ++j) {
          value += static_cast<double>(decoded(i, j)) * static_cast<double>(x(t, j));
          size += 1 + std::fabs(static_cast<double>(decoded(i, j)) * static_cast<double>(x(t, j)));
        }
        result = result && std::fabs(static_cast<double>(y(t, i)) - value) <= tolerance * size;
      }
    }
    return result;
  }
};

void check_same_bits(const quantized_matrix& q, index_t rank, const matrix<float>& x) {
  const problem p(q, rank);
  for (const precision mode : {precision::exact, precision::bf16, precision::int8}) {
    matrix<float> scalar;
    for (const isa set : all_isas) {
      if (!is_available(set)) continue;
      CAPTURE(q.format_name(), q.rows(), q.cols(), rank, x.rows(), to_string(mode), to_string(set));
      const matrix<float> y = p.multiply(x, mode, set);
      if (set == isa::scalar) {
        scalar = y;
        CHECK(p.is_near(x, y, mode));
      }
      CHECK(std::equal(y.data(), y.data() + y.size(), scalar.data(), is_same));
    }
  }
}

} // namespace

TEST_CASE("isa: a machine has the sets of its architecture", "[matmul][isa]") {
  CHECK(is_available(isa::scalar));
#if defined(__aarch64__)
  CHECK(is_available(isa::neon));
  for (const isa set : {isa::avx2, isa::avx512, isa::avx512_vnni}) CHECK_FALSE(is_available(set));
#elif defined(__x86_64__)
  for (const isa set : {isa::neon, isa::neon_dotprod}) CHECK_FALSE(is_available(set));
#endif
  // Whoever knows the machine names what must be found.
  if (const char* expected = std::getenv("QLR_TEST_ISAS"); expected != nullptr) {
    CHECK(available_names() == expected);
  }
}

TEST_CASE("isa: the fastest set is the default, QLR_ISA overrides it", "[matmul][isa]") {
  const matrix<float> weight = normal_matrix(3, 64, 1);
  const quantized_matrix q = quantize(weight.view(), make_quantizer("nf4"));
  const std::string names = available_names();
  {
    const environment_value unset("QLR_ISA", nullptr);
    CHECK(names.ends_with(to_string(default_isa())));
  }
  for (const isa set : all_isas) {
    CAPTURE(to_string(set));
    CHECK(parse_isa(to_string(set)) == set);
    const environment_value forced("QLR_ISA", std::string(to_string(set)).c_str());
    isa used = isa::scalar;
    const report outcome = report_of([&] {
      used = prepack(q.view(), {nullptr, 3, 0}, {nullptr, 0, 64}).instruction_set();
    });
    if (is_available(set)) {
      CHECK(outcome.message.empty());
      CHECK(used == set);
    } else {
      CHECK(outcome.code == status_code::unsupported);
      CHECK(outcome.message ==
            sentence("instruction set ", to_string(set), " is not available on this machine"));
    }
  }
  const environment_value wrong("QLR_ISA", "NEON");
  CHECK(report_of([] { (void)default_isa(); })
            .says(status_code::invalid_argument, "instruction set is 'NEON', allowed are scalar, avx2, "
                                                 "avx512, avx512_vnni, neon, neon_dotprod"));
}

TEST_CASE("isa: every set gives the bits of the scalar one", "[matmul][isa][property]") {
  for (const shape& s : shapes) {
    const matrix<float> weight = normal_matrix(s.rows, s.cols, 1);
    const matrix<float> x = normal_matrix(s.tokens, s.cols, 4);
    // 2, 4 and 8 bits with and without zero points and as a table; scales of fp16 and fp32
    for (const std::string_view name : {"sign", "int2", "uint2", "nf2", "nf3", "int4", "uint4", "minmax4",
                                        "nf4", "nvfp4", "iq4_nl", "mxint8", "uint8"}) {
      check_same_bits(quantize(weight.view(), make_quantizer(name)), s.rank, x);
    }
    for (const index_t group : {index_t{17}, group_per_row}) {
      if (group > s.cols) continue;
      for (const std::string_view name : {"nf2", "nf4", "uint4", "int8"}) {
        check_same_bits(quantize(weight.view(), make_quantizer(name, {.group_size = group})), s.rank, x);
      }
    }
    check_same_bits(with_uneven_levels(quantize(weight.view(), make_quantizer("int8"))), s.rank, x);
  }
}

TEST_CASE("isa: sums of the largest products do not overflow", "[matmul][isa]") {
  const matrix<float> weight = normal_matrix(5, 128, 1);
  for (const float activation : {1.0F, -1.0F}) {
    const matrix<float> x(3, 128, activation); // all round to the largest integer
    for (const std::string_view name : {"int2", "nf4", "int8", "uint8"}) {
      const quantized_matrix q = quantize(weight.view(), make_quantizer(name));
      for (const std::uint8_t codes : {std::uint8_t{0x00}, std::uint8_t{0xFF}}) {
        check_same_bits(with_codes(q, codes), 0, x);
      }
    }
  }
}
