// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/quant/codebook_grid.hpp>
#include <qlr/quant/minifloat_grid.hpp>
#include <qlr/quant/normal_float.hpp>
#include <qlr/quant/quantizer.hpp>
#include <qlr/quant/scale_rules.hpp>
#include <qlr/quant/uniform_grid.hpp>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace qlr {

/// Any quantizer behind one type, chosen at run time; copies share the quantizer.
///
/// The indirection is one call per matrix, so it costs nothing that can be measured.
class any_quantizer {
public:
  template <quantizer_policy Quantizer>
    requires(!std::same_as<std::remove_cvref_t<Quantizer>, any_quantizer>)
  any_quantizer(Quantizer quantizer) // NOLINT(google-explicit-constructor)
      : self_(std::make_shared<model<Quantizer>>(std::move(quantizer))) {}

  [[nodiscard]] std::string name() const { return self_->name(); }
  [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const {
    return self_->layout(rows, cols);
  }
  [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                          const executor& run) const {
    return self_->quantize(weight, hints, run);
  }

  /// Whether the steps below can be called: the quantizer inside is a stepwise_quantizer_policy.
  [[nodiscard]] bool is_stepwise() const { return self_->is_stepwise(); }
  /// @throws qlr::error unsupported: not stepwise
  [[nodiscard]] fitted_scales fit_scales(matrix_view<const float> weight, const quantize_hints& hints,
                                         const executor& run) const {
    return self_->fit_scales(weight, hints, run);
  }
  /// @copydoc fit_scales
  void round(const float* x, const block_scale* blocks, index_t count, code_t* codes, float* values) const {
    self_->round(x, blocks, count, codes, values);
  }
  /// @copydoc fit_scales
  [[nodiscard]] quantized_matrix assemble(const quantized_layout& layout, const fitted_scales& scales,
                                          const matrix<code_t>& codes, const executor& run) const {
    return self_->assemble(layout, scales, codes, run);
  }

  /// The quantizer inside where it is of this type, otherwise null.
  template <class Quantizer>
  [[nodiscard]] const Quantizer* target() const {
    return static_cast<const Quantizer*>(self_->target(&type_tag<Quantizer>));
  }

private:
  /// Its address stands for the type.
  template <class Quantizer>
  static constexpr char type_tag = 0;

  struct interface {
    interface() = default;
    interface(const interface&) = delete;
    interface& operator=(const interface&) = delete;
    virtual ~interface() = default;
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual quantized_layout layout(index_t rows, index_t cols) const = 0;
    [[nodiscard]] virtual quantized_matrix quantize(matrix_view<const float> weight,
                                                    const quantize_hints& hints,
                                                    const executor& run) const = 0;
    [[nodiscard]] virtual bool is_stepwise() const = 0;
    [[nodiscard]] virtual fitted_scales fit_scales(matrix_view<const float> weight,
                                                   const quantize_hints& hints,
                                                   const executor& run) const = 0;
    virtual void round(const float* x, const block_scale* blocks, index_t count, code_t* codes,
                       float* values) const = 0;
    [[nodiscard]] virtual quantized_matrix assemble(const quantized_layout& layout,
                                                    const fitted_scales& scales, const matrix<code_t>& codes,
                                                    const executor& run) const = 0;
    [[nodiscard]] virtual const void* target(const char* type) const = 0;
  };

  template <class Quantizer>
  struct model final : interface {
    explicit model(Quantizer q) : quantizer(std::move(q)) {}
    [[nodiscard]] std::string name() const override { return quantizer.name(); }
    [[nodiscard]] quantized_layout layout(index_t rows, index_t cols) const override {
      return quantizer.layout(rows, cols);
    }
    [[nodiscard]] quantized_matrix quantize(matrix_view<const float> weight, const quantize_hints& hints,
                                            const executor& run) const override {
      return quantizer.quantize(weight, hints, run);
    }
    [[nodiscard]] bool is_stepwise() const override { return stepwise_quantizer_policy<Quantizer>; }
    [[nodiscard]] fitted_scales fit_scales(matrix_view<const float> weight, const quantize_hints& hints,
                                           const executor& run) const override {
      if constexpr (stepwise_quantizer_policy<Quantizer>) {
        return quantizer.fit_scales(weight, hints, run);
      } else {
        fail_not_stepwise();
      }
    }
    void round(const float* x, const block_scale* blocks, index_t count, code_t* codes,
               float* values) const override {
      if constexpr (stepwise_quantizer_policy<Quantizer>) {
        return quantizer.round(x, blocks, count, codes, values);
      } else {
        fail_not_stepwise();
      }
    }
    [[nodiscard]] quantized_matrix assemble(const quantized_layout& layout, const fitted_scales& scales,
                                            const matrix<code_t>& codes, const executor& run) const override {
      if constexpr (stepwise_quantizer_policy<Quantizer>) {
        return quantizer.assemble(layout, scales, codes, run);
      } else {
        fail_not_stepwise();
      }
    }
    [[nodiscard]] const void* target(const char* type) const override {
      return type == &type_tag<Quantizer> ? &quantizer : nullptr;
    }
    [[noreturn]] void fail_not_stepwise() const {
      fail(status_code::unsupported, "quantizer ", quantizer.name(),
           " has no fit_scales, round and assemble, which error feedback and coordinate descent need");
    }
    Quantizer quantizer;
  };

  std::shared_ptr<const interface> self_;
};

static_assert(stepwise_quantizer_policy<any_quantizer>);

/// Requested changes to a named format; what is left empty keeps the format's own value.
struct format_options {
  std::optional<index_t> group_size{};
  std::optional<scale_format> scales{};
  bool scale_search = false;
};

/// A named format: how its quantizer is made and what it fixes.
struct format_description {
  std::string_view name;
  int bits;
  index_t group_size;  ///< default elements per scale
  scale_format scales; ///< default storage of scales
  bool is_fixed;       ///< group size and scale storage belong to the format and cannot be changed
  std::string_view summary;
  any_quantizer (*make)(const format_description&, const quantizer_options&);
};

namespace detail {

template <class Grid, class Rule, class Packing = lsb_first_packing>
any_quantizer compose(const format_description& format, const Grid& grid, const Rule& rule,
                      const quantizer_options& options) {
  return quantizer<Grid, Rule, Packing>(std::string(format.name), grid, rule, options);
}

inline any_quantizer make_signed(const format_description& f, const quantizer_options& o) {
  return compose(f, signed_grid(f.bits), absmax_rule{}, o);
}
inline any_quantizer make_affine(const format_description& f, const quantizer_options& o) {
  return compose(f, unsigned_grid(f.bits), min_max_rule{}, o);
}
inline any_quantizer make_exact_range(const format_description& f, const quantizer_options& o) {
  return compose(f, unsigned_grid(f.bits), exact_range_rule{}, o);
}
template <int Bits>
any_quantizer make_normal_float(const format_description& f, const quantizer_options& o) {
  return compose(f, codebook_grid<Bits>(normal_float_levels(Bits)), absmax_rule{}, o);
}
inline any_quantizer make_e2m1(const format_description& f, const quantizer_options& o) {
  return compose(f, e2m1_grid{}, absmax_rule{}, o);
}
inline any_quantizer make_sign(const format_description& f, const quantizer_options& o) {
  // Zero counts as plus: the one threshold is lowered below it.
  return compose(f, codebook_grid<1>(sign_levels, midpoint_rule::upper), mean_magnitude_rule{}, o);
}
inline any_quantizer make_mxint(const format_description& f, const quantizer_options& o) {
  return compose(f, mantissa_grid(f.bits), shared_exponent_rule<exponent_rounding::floor>{f.bits - 2}, o);
}
inline any_quantizer make_bfp(const format_description& f, const quantizer_options& o) {
  return compose(f, mantissa_grid(f.bits), shared_exponent_rule<exponent_rounding::ceil>{f.bits - 1}, o);
}
inline any_quantizer make_mxfp4(const format_description& f, const quantizer_options& o) {
  return compose(f, e2m1_grid{}, shared_exponent_rule<exponent_rounding::floor>{2}, o);
}
inline any_quantizer make_q4_0(const format_description& f, const quantizer_options& o) {
  quantizer_options options = o;
  options.encode_with_exact_scale = true;
  return compose<uniform_grid<tie_rule::half_up>, signed_max_rule, split_half_packing>(
      f, signed_grid<tie_rule::half_up>(4), signed_max_rule{}, options);
}
inline any_quantizer make_q8_0(const format_description& f, const quantizer_options& o) {
  quantizer_options options = o;
  options.encode_with_exact_scale = true;
  return compose(f, symmetric_grid<tie_rule::half_away>(8), absmax_rule{}, options);
}
inline any_quantizer make_iq4_nl(const format_description& f, const quantizer_options& o) {
  return compose<codebook_grid<4>, refitted_signed_max_rule, split_half_packing>(
      f, codebook_grid<4>(iq4_nl_levels, midpoint_rule::upper), refitted_signed_max_rule{}, o);
}

inline constexpr scale_format fp16_scales{};
inline constexpr scale_format fp32_scales{scale_coding::plain, scale_type::fp32};
inline constexpr scale_format e8m0_scales{scale_coding::plain, scale_type::e8m0};
inline constexpr scale_format nvfp4_scales{scale_coding::tensor_scaled, scale_type::e4m3};

inline constexpr std::string_view signed_summary = "signed integers, scale max|x| / (2^(b-1) - 1)";
inline constexpr std::string_view affine_summary =
    "unsigned integers with a zero point, range includes 0 (GPTQ)";
inline constexpr std::string_view mxint_summary =
    "OCP / QERA block of integers with a shared exponent, floor";
inline constexpr std::string_view bfp_summary = "LQER block floating point, shared exponent, ceil";

} // namespace detail

/// Every format that has a name; a new format is one line here.
inline constexpr auto named_formats = std::to_array<format_description>({
    {"int2", 2, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int3", 3, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int4", 4, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int5", 5, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int6", 6, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int7", 7, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"int8", 8, 64, detail::fp16_scales, false, detail::signed_summary, &detail::make_signed},
    {"uint2", 2, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint3", 3, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint4", 4, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint5", 5, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint6", 6, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint7", 7, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"uint8", 8, 64, detail::fp16_scales, false, detail::affine_summary, &detail::make_affine},
    {"minmax2", 2, 64, detail::fp32_scales, false, "LoftQ's uniform levels from min to max",
     &detail::make_exact_range},
    {"minmax4", 4, 64, detail::fp32_scales, false, "LoftQ's uniform levels from min to max",
     &detail::make_exact_range},
    {"nf2", 2, 64, detail::fp16_scales, false, "normal float (LoftQ levels)", &detail::make_normal_float<2>},
    {"nf3", 3, 64, detail::fp16_scales, false, "normal float (LoftQ levels)", &detail::make_normal_float<3>},
    {"nf4", 4, 64, detail::fp16_scales, false, "normal float (bitsandbytes table)",
     &detail::make_normal_float<4>},
    {"nf8", 8, 64, detail::fp16_scales, false, "normal float (LQ-LoRA's formula)",
     &detail::make_normal_float<8>},
    {"fp4", 4, 64, detail::fp16_scales, false, "FP4 E2M1, scale max|x| / 6", &detail::make_e2m1},
    {"sign", 1, 64, detail::fp16_scales, false, "one bit, scale mean|x|", &detail::make_sign},
    {"mxint2", 2, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint3", 3, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint4", 4, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint5", 5, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint6", 6, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint7", 7, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"mxint8", 8, 32, detail::e8m0_scales, false, detail::mxint_summary, &detail::make_mxint},
    {"bfp2", 2, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp3", 3, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp4", 4, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp5", 5, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp6", 6, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp7", 7, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"bfp8", 8, 16, detail::e8m0_scales, false, detail::bfp_summary, &detail::make_bfp},
    {"mxfp4", 4, 32, detail::e8m0_scales, true, "OCP MXFP4: E2M1 with a shared exponent",
     &detail::make_mxfp4},
    {"nvfp4", 4, 16, detail::nvfp4_scales, true, "NVFP4: E2M1, E4M3 scales, one fp32 scale",
     &detail::make_e2m1},
    {"q4_0", 4, 32, detail::fp16_scales, true, "ggml Q4_0", &detail::make_q4_0},
    {"iq4_nl", 4, 32, detail::fp16_scales, true, "ggml IQ4_NL", &detail::make_iq4_nl},
    {"q8_0", 8, 32, detail::fp16_scales, true, "ggml Q8_0", &detail::make_q8_0},
});

/// @throws qlr::error invalid_argument: no format has this name; the message lists all
[[nodiscard]] inline const format_description& find_format(std::string_view name) {
  std::string names;
  for (const format_description& format : named_formats) {
    if (format.name == name) return format;
    names += sentence(names.empty() ? "" : ", ", format.name);
  }
  fail(status_code::invalid_argument, "quantizer is '", name, "', allowed are ", names);
}

/// Makes the quantizer of a named format.
///
/// @throws qlr::error invalid_argument: unknown name, a change to what the format fixes, or an impossible
/// group size
[[nodiscard]] inline any_quantizer make_quantizer(std::string_view name, const format_options& request = {}) {
  const format_description& format = find_format(name);
  quantizer_options options;
  options.group_size = request.group_size.value_or(format.group_size);
  options.scales = request.scales.value_or(format.scales);
  options.scale_search = request.scale_search;
  options.allow_short_group = !request.group_size.has_value() || format.is_fixed;
  options.encode_with_exact_scale = options.scales.coding == scale_coding::double_mean;
  require(!format.is_fixed || options.group_size == format.group_size, status_code::invalid_argument,
          "group_size is ", options.group_size, ", ", name, " has groups of ", format.group_size);
  require(!format.is_fixed || options.scales == format.scales, status_code::invalid_argument, "scale is ",
          to_string(options.scales), ", ", name, " has ", to_string(format.scales), " scales");
  return format.make(format, options);
}

} // namespace qlr
