// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Two ways to a quantizer of one's own: a table of levels, and a class that computes its levels.
#include <qlr/qlr.hpp>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace {

/// Levels 0, +-1/8, +-1/4, +-1/2, +-1 ... in powers of two: products become shifts. Code = sign bit and
/// exponent.
class power_of_two_grid {
public:
  static int bits() { return 4; }
  static int num_codes() { return 16; }

  static qlr::code_t encode(float value) {
    const float magnitude = std::fabs(value);
    int exponent = 0; // 0 stands for zero, e for 2^(e - 7)
    for (int e = 1; e <= 7; ++e) {
      const float midpoint = e == 1 ? 0.5F * level(1) : 0.5F * (level(e - 1) + level(e));
      if (magnitude > midpoint) exponent = e;
    }
    return static_cast<qlr::code_t>(exponent | (value < 0 && exponent != 0 ? 8 : 0));
  }
  static float decode(qlr::code_t code) {
    const float magnitude = level(code & 7);
    return (code & 8) != 0 ? -magnitude : magnitude;
  }
  static float absmax_level() { return 1.0F; }
  static float lowest_level() { return -1.0F; }

private:
  static float level(int exponent) { return exponent == 0 ? 0.0F : std::ldexp(1.0F, exponent - 7); }
};
static_assert(qlr::grid_policy<power_of_two_grid>); // says what is missing while the class is being written

double decompose_with(const qlr::any_quantizer& quantizer, const qlr::matrix<float>& weight) {
  qlr::decompose_options options;
  options.rank = 8;
  options.steps = qlr::find_preset("best").steps;
  const qlr::decompose_result result = qlr::decompose(weight.view(), quantizer, options);
  const double bits =
      8.0 * static_cast<double>(result.best.storage_bytes()) / static_cast<double>(weight.size());
  std::printf("%-14s relative error %.4f at %.2f bits per weight\n", quantizer.name().c_str(),
              result.relative_error, bits);
  return result.relative_error;
}

} // namespace

int main() {
  qlr::matrix<float> weight(128, 256);
  for (qlr::index_t i = 0; i < weight.size(); ++i)
    weight.data()[i] = static_cast<float>(qlr::normal_at(3, i));
  const qlr::quantizer_options groups{.group_size = 64};

  // A table: sorted levels, nearest wins. Up to 2^Bits of them.
  const std::array<float, 5> levels{-1.0F, -0.4F, 0.0F, 0.4F, 1.0F};
  const qlr::any_quantizer table =
      qlr::quantizer("five-levels", qlr::codebook_grid<3>(levels), qlr::absmax_rule{}, groups);
  // A class: anything that models grid_policy.
  const qlr::any_quantizer powers =
      qlr::quantizer("power-of-two", power_of_two_grid{}, qlr::absmax_rule{}, groups);

  const double table_error = decompose_with(table, weight);
  const double powers_error = decompose_with(powers, weight);
  const double nf4_error = decompose_with(qlr::make_quantizer("nf4"), weight);
  // Four bits spent on a Gaussian matrix: the normal-float table must win over both.
  return nf4_error < powers_error && nf4_error < table_error ? EXIT_SUCCESS : EXIT_FAILURE;
}
