// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// quantize() and dequantize() of every kind of format, with memcpy of the same matrix as the reference.
//
// GB/s count each byte once, as it must cross the memory bus:
//   quantize    bytes of W read (4 m n) + bytes of codes, scales and zero points written
//   dequantize  bytes of codes, scales and zero points read + bytes of W written (4 m n)
//   memcpy      bytes of W read + bytes of W written (8 m n)
// quantize() checks W for NaN first and finds scales before it encodes, so it passes over W several times;
// the formula does not count that, nor the page faults of the memory that it returns.
// Calls take turns over enough matrices to fill twice the last-level cache: every call starts from memory.

#include <harness/axes.hpp>
#include <harness/environment.hpp>
#include <harness/matrices.hpp>
#include <harness/program.hpp>
#include <harness/timing.hpp>

#include <qlr/quant/formats.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace {

using namespace qlr;
using namespace qlr::bench;

constexpr index_t weight_bytes = quantize_rows * quantize_cols * static_cast<index_t>(sizeof(float));
constexpr index_t verified_row_step = 64;

/// How many matrices fill twice the last-level cache.
index_t num_rotated() {
  return 1 + 2 * last_level_cache_bytes() / weight_bytes;
}

/// The matrices that calls take turns over; all hold the same numbers.
std::vector<matrix<float>>& rotated_weights() {
  static std::vector<matrix<float>> weights = [] {
    thread_pool pool;
    const matrix<float> one = make_matrix(matrix_kind::gaussian, quantize_rows, quantize_cols, pool);
    return std::vector<matrix<float>>(static_cast<std::size_t>(num_rotated()), one);
  }();
  return weights;
}

/// Where dequantize() and memcpy write; every page has been touched.
std::vector<matrix<float>>& rotated_outputs() {
  static std::vector<matrix<float>> outputs(static_cast<std::size_t>(num_rotated()),
                                            matrix<float>(quantize_rows, quantize_cols, 0.0F));
  return outputs;
}

/// Element `turn` modulo the size.
template <class T>
T& at_turn(std::vector<T>& items, int turn) {
  return items[static_cast<std::size_t>(turn) % items.size()];
}

/// Bit by bit: the code of element (i, j).
int decode_bits(const quantized_matrix_view& q, index_t i, index_t j) {
  const std::uint8_t* row = q.codes + i * q.layout.row_bytes();
  if (q.layout.order == code_order::split_half) {
    const index_t within = j % 32; // 32 divides the columns here
    const int byte = row[j / 32 * 16 + within % 16];
    return within < 16 ? byte % 16 : byte / 16;
  }
  int code = 0;
  for (int b = 0; b < q.layout.bits; ++b) {
    const index_t bit = j * q.layout.bits + b;
    code += ((row[bit / 8] >> (bit % 8)) & 1) << b;
  }
  return code;
}

/// The distance to the nearest of all values that a block can hold, by trying each.
double nearest_distance(const quantized_matrix_view& q, int first_code, float x, double scale, double zero) {
  double least = std::numeric_limits<double>::infinity();
  for (int code = first_code; code < 1 << q.layout.bits; ++code) {
    const double value = (static_cast<double>(q.levels[code]) - zero) * scale;
    least = std::min(least, std::fabs(static_cast<double>(x) - value));
  }
  return least;
}

/// Scale and zero point of a group by the textbook: absolute maximum, or minimum and maximum.
std::pair<double, double> textbook_scale(const quantized_matrix_view& q, const float* x, index_t count) {
  const auto [low, high] = std::minmax_element(x, x + count);
  if (q.layout.zeros != zero_point::none) {
    const double steps = std::exp2(q.layout.bits) - 1.0;
    const double scale = (std::max(*high, 0.0F) - std::min(*low, 0.0F)) / steps;
    return {scale, std::round(-std::min(*low, 0.0F) / scale)};
  }
  const float top = *std::max_element(q.levels, q.levels + (1 << q.layout.bits));
  return {static_cast<double>(std::max(-*low, *high) / top), 0.0};
}

/// Checks every 64th row: codes are the nearest for their scale, and the error is that of the textbook loop.
std::string verify_quantized(const matrix<float>& weight, const quantized_matrix& quantized,
                             const format_axis& format) {
  const quantized_matrix_view q = quantized.view();
  double error = 0;
  double textbook_error = 0;
  for (index_t i = 0; i < weight.rows(); i += verified_row_step) {
    for (index_t first = 0, g = 0; first < weight.cols(); first += q.layout.group_cols(), ++g) {
      const block_scale stored = q.block(q.layout.scale_index(i, g));
      const float* x = weight.view().row(i) + first;
      const auto [scale, zero] = textbook_scale(q, x, q.layout.group_cols());
      for (index_t j = 0; j < q.layout.group_cols(); ++j) {
        const float value = decode_value(q.levels[decode_bits(q, i, first + j)], stored);
        const double distance = std::fabs(static_cast<double>(x[j]) - static_cast<double>(value));
        const auto unit = static_cast<double>(stored.scale);
        const double least =
            nearest_distance(q, format.first_code, x[j], unit, static_cast<double>(stored.zero));
        // ggml encodes with the scale before it is rounded to fp16: a code may miss by 127 / 2^11 units.
        if (distance > least + 0.07 * std::fabs(unit)) return "a code is not the nearest one";
        const double textbook = nearest_distance(q, format.first_code, x[j], scale, zero);
        error += distance * distance;
        textbook_error += textbook * textbook;
      }
    }
  }
  const double ratio = std::sqrt(error / textbook_error);
  if (ratio <= format.error_limit) return {};
  return sentence("the error is ", ratio, " of the textbook loop's, allowed is ", format.error_limit);
}

/// Checks every 64th row of a dequantized matrix against the bits, to the last one.
std::string verify_dequantized(const quantized_matrix& quantized, const matrix<float>& decoded) {
  const quantized_matrix_view q = quantized.view();
  for (index_t i = 0; i < q.rows(); i += verified_row_step) {
    for (index_t j = 0; j < q.cols(); ++j) {
      const block_scale scale = q.block(q.layout.scale_index(i, j / q.layout.group_cols()));
      if (decoded(i, j) != decode_value(q.levels[decode_bits(q, i, j)], scale)) {
        return sentence("element (", i, ", ", j, ") is not what its code stands for");
      }
    }
  }
  return {};
}

/// Adds GB/s, and the share of what memcpy reaches on as many threads in the same run.
void report_rate(benchmark::State& state, const samples& times, index_t bytes, int num_threads,
                 bool is_reference = false) {
  static std::vector<double> reference(static_cast<std::size_t>(num_hardware_threads()) + 1);
  if (times.is_empty()) return;
  const double rate = static_cast<double>(bytes) / times.median() * 1e-9;
  double& memcpy_rate = reference[static_cast<std::size_t>(num_threads)];
  if (is_reference) memcpy_rate = rate;
  state.counters["GB/s"] = rate;
  state.counters["Gelem/s"] = static_cast<double>(quantize_rows * quantize_cols) / times.median() * 1e-9;
  if (memcpy_rate > 0) state.counters["of_memcpy"] = rate / memcpy_rate;
  report(state, times);
}

/// The quantizer of a row of the axis.
any_quantizer quantizer_of(const format_axis& format) {
  return make_quantizer(format.name,
                        {.group_size = {}, .scales = {}, .scale_search = format.searches_scales});
}

/// The reference row: W copied, rows shared among the threads.
void time_memcpy(benchmark::State& state, int num_threads) {
  thread_pool pool(num_threads);
  const auto copy = [&](int turn) {
    const matrix<float>& in = at_turn(rotated_weights(), turn);
    matrix<float>& out = at_turn(rotated_outputs(), turn);
    for_each_range(pool, quantize_rows, rows_per_task(quantize_cols), [&](index_t begin, index_t end) {
      std::memcpy(out.view().row(begin), in.view().row(begin),
                  static_cast<std::size_t>((end - begin) * quantize_cols) * sizeof(float));
    });
    return out.data();
  };
  const auto verify = [&]() -> std::string {
    const float* out = copy(0);
    const bool is_equal =
        std::memcmp(out, rotated_weights()[0].data(), static_cast<std::size_t>(weight_bytes)) == 0;
    return is_equal ? "" : "the copy differs";
  };
  const samples times = verify_then_time(state, verify, warm_ups, copy);
  report_rate(state, times, 2 * weight_bytes, num_threads, true);
}

/// One format's quantize().
void time_quantize(benchmark::State& state, const format_axis& format, int num_threads) {
  thread_pool pool(num_threads);
  const any_quantizer quantizer = quantizer_of(format);
  const auto body = [&](int turn) {
    return quantize(matrix_view<const float>(at_turn(rotated_weights(), turn).view()), quantizer, pool);
  };
  const auto verify = [&] { return verify_quantized(rotated_weights()[0], body(0), format); };
  const samples times = verify_then_time(state, verify, warm_ups, body);
  const index_t stored = quantizer.layout(quantize_rows, quantize_cols).storage_bytes();
  report_rate(state, times, weight_bytes + stored, num_threads);
}

/// One format's dequantize(), into memory that exists.
void time_dequantize(benchmark::State& state, const format_axis& format, int num_threads) {
  thread_pool pool(num_threads);
  const any_quantizer quantizer = quantizer_of(format);
  std::vector<quantized_matrix> stored(
      static_cast<std::size_t>(num_rotated()),
      quantize(matrix_view<const float>(rotated_weights()[0].view()), quantizer, pool));
  const auto body = [&](int turn) {
    matrix<float>& out = at_turn(rotated_outputs(), turn);
    dequantize(at_turn(stored, turn).view(), out.view(), pool);
    return out.data();
  };
  const auto verify = [&] {
    rotated_outputs()[0].fill(std::numeric_limits<float>::quiet_NaN());
    body(0);
    return verify_dequantized(stored[0], rotated_outputs()[0]);
  };
  const samples times = verify_then_time(state, verify, warm_ups, body);
  report_rate(state, times, weight_bytes + stored[0].layout().storage_bytes(), num_threads);
}

/// Registers every row: memcpy first, it is what the others are compared with.
void register_rows() {
  const auto add = [](const std::string& name, auto&& body) {
    benchmark::RegisterBenchmark(name.c_str(), body)
        ->UseManualTime()
        ->Iterations(timed_calls)
        ->Unit(benchmark::kMillisecond);
  };
  std::vector<int> thread_counts{1};
  if (num_hardware_threads() > 1) thread_counts.push_back(num_hardware_threads());
  for (const int threads : thread_counts) {
    add(sentence("memcpy/Threads:", threads),
        [threads](benchmark::State& state) { time_memcpy(state, threads); });
    for (const format_axis& format : formats) {
      const std::string axes =
          sentence("/Quantizer:", format.name, format.searches_scales ? "+search" : "", "/Threads:", threads);
      add("quantize_formats" + axes,
          [&format, threads](benchmark::State& state) { time_quantize(state, format, threads); });
      if (format.searches_scales) continue; // what is stored looks the same
      add("dequantize_formats" + axes,
          [&format, threads](benchmark::State& state) { time_dequantize(state, format, threads); });
    }
  }
}

} // namespace

int main(int argc, char** argv) {
  benchmark::AddCustomContext("rotation",
                              sentence(num_rotated(), " matrices of ", weight_bytes >> 20, " MiB"));
  register_rows();
  return run_program(argc, argv);
}
