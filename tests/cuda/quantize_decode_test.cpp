// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// What is done with the elements of a quantized matrix on a device, against the CPU and slow sums.
#include <cuda/quantize_support.hpp>
#include <qlr/quant/formats.hpp>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

using namespace qlr;
using namespace qlr::test;

namespace {

constexpr float unset = std::numeric_limits<float>::quiet_NaN();

/// out = every element, by device_quantized_view::element; one thread.
struct element_kernel {
  static constexpr std::string_view name = "element_kernel";
  static constexpr int most_threads = 32;
  static constexpr int least_blocks = 1;

  cuda::device_quantized_view q;
  float* out;

  template <cuda::detail::kernel_thread Thread>
  QLR_DEVICE void operator()(Thread& thread) const {
    for (index_t i = thread.index(); i < q.rows() * q.cols(); i += thread.num_threads())
      out[i] = q.element(i / q.cols(), i % q.cols());
  }
};

/// Quantized matrices of different packing, storage of scales, zero points and groups.
std::vector<quantized_matrix> examples(index_t rows, index_t cols) {
  const matrix<float> w = awkward_matrix(rows, cols, 61);
  std::vector<quantized_matrix> all;
  for (const format_description& format : named_formats)
    all.push_back(make_quantizer(format.name).quantize(w.view(), {}, {}));
  const auto add = [&](const char* name, index_t group, const scale_format& scales) {
    format_options request;
    request.group_size = std::min(group, cols);
    request.scales = scales;
    all.push_back(make_quantizer(name, request).quantize(w.view(), {}, {}));
  };
  add("nf4", 24, double_quantized(3, scale_type::fp16, 5));
  add("nf3", 7, nested_bitsandbytes());
  add("uint5", 1, {});
  add("int4", group_per_row, {});
  add("uint2", group_per_tensor, {});
  return all;
}

bool all_same(const matrix<float>& a, const matrix<float>& b) {
  for (index_t i = 0; i < a.size(); ++i) {
    if (!is_same(a.data()[i], b.data()[i])) return false;
  }
  return a.rows() == b.rows() && a.cols() == b.cols();
}

struct shape {
  index_t rows;
  index_t cols;
};

} // namespace

TEST_CASE("dequantize on a device: every format, bit for bit", "[cuda]") {
  if (!has_device()) return;
  for (const shape s : {shape{1, 1}, shape{5, 67}, shape{2, 601}, shape{37, 33}}) {
    for (const quantized_matrix& q : examples(s.rows, s.cols)) {
      CAPTURE(q.format_name(), q.rows(), q.cols());
      const auto on_device = cuda::to_device(q);
      cuda::device_matrix<float> out = cuda::to_device(matrix<float>(s.rows, s.cols, unset).view());
      cuda::dequantize_async<test_launcher>(on_device.view(), out.view(), nullptr);
      const matrix<float> expected = dequantize(q);
      CHECK(all_same(cuda::to_host(out), expected));
      if (s.cols != 67) continue;
      cuda::device_matrix<float> elements = cuda::to_device(matrix<float>(s.rows, s.cols, unset).view());
      test_launcher::launch(element_kernel{on_device.view(), elements.data()}, {1, 32, 0}, nullptr);
      CHECK(all_same(cuda::to_host(elements), expected));
    }
  }
}

TEST_CASE("dequantize on a device: any order of threads, any strides", "[cuda]") {
  if (!has_device()) return;
  format_options request;
  request.group_size = 24;
  request.scales = double_quantized();
  const matrix<float> w = awkward_matrix(9, 130, 3);
  const quantized_matrix q = make_quantizer("nf4", request).quantize(w.view(), {}, {});
  const matrix<float> expected = dequantize(q);
  in_every_order([&] {
    const auto on_device = cuda::to_device(q);
    cuda::device_matrix<float> columns = cuda::to_device(matrix<float>(130, 9, unset).view());
    cuda::dequantize_async<test_launcher>(on_device.view(), columns.view().transposed(), nullptr);
    const matrix<float> values = cuda::to_host(columns);
    for (index_t i = 0; i < 9; ++i) {
      for (index_t j = 0; j < 130; ++j) {
        if (!is_same(values(j, i), expected(i, j))) FAIL("element " << i << ", " << j);
      }
    }
  });
}

TEST_CASE("quantized arithmetic on a device: W - Q and Q + factor (X - Q)", "[cuda]") {
  if (!has_device()) return;
  for (const shape s : {shape{1, 1}, shape{5, 67}, shape{2, 601}}) {
    const matrix<float> w = awkward_matrix(s.rows, s.cols, 71);
    matrix<double> precise(s.rows, s.cols);
    for (index_t i = 0; i < w.size(); ++i)
      precise.data()[i] = static_cast<double>(w.data()[i]) * (1.0 + 0x1p-30);
    const quantized_matrix q = make_quantizer("uint3").quantize(w.view(), {}, {});
    const matrix<float> decoded = dequantize(q);
    const auto on_device = cuda::to_device(q);
    const spread_matrix spread(w);
    const auto device_precise = cuda::to_device(precise.view());
    cuda::device_matrix<float> x = cuda::to_device(matrix<float>(s.rows, s.cols, unset).view());
    matrix<float> expected(s.rows, s.cols);
    for (index_t i = 0; i < w.size(); ++i) expected.data()[i] = w.data()[i] - decoded.data()[i];

    cuda::subtract_quantized_async<test_launcher>(spread.view(), on_device.view(), x.view(), nullptr);
    CHECK(all_same(cuda::to_host(x), expected));
    cuda::device_matrix<float> y = cuda::to_device(matrix<float>(s.rows, s.cols, unset).view());
    cuda::subtract_quantized_async<test_launcher>(cuda::device_view<const double>(device_precise.view()),
                                                  on_device.view(), y.view(), nullptr);
    CHECK(all_same(cuda::to_host(y), expected)); // W is rounded to float first

    cuda::device_matrix<float> z = cuda::to_device(w.view());
    cuda::extrapolate_async<test_launcher>(on_device.view(), 1.75F, z.view(), nullptr);
    const matrix<float> moved = cuda::to_host(z);
    for (index_t i = 0; i < w.size(); ++i) {
      const auto level = static_cast<double>(decoded.data()[i]);
      const double step = 1.75 * (static_cast<double>(w.data()[i]) - level);
      // Three roundings, of the difference, the product and the sum.
      CHECK(is_near(static_cast<double>(moved.data()[i]), level + step,
                    0x1p-23 * (std::fabs(level) + std::fabs(step))));
    }
  }
}

TEST_CASE("energies on a device: plain, weighted by rows, columns or elements", "[cuda]") {
  if (!has_device()) return;
  for (const shape s : {shape{1, 1}, shape{5, 67}, shape{2, 601}, shape{70, 40}}) {
    const matrix<float> w = awkward_matrix(s.rows, s.cols, 73);
    const matrix<float> other = awkward_matrix(s.rows, s.cols, 74);
    const quantized_matrix q = make_quantizer("nf4").quantize(other.view(), {}, {});
    const matrix<float> decoded = dequantize(q);
    const matrix<float> f = normal_matrix(s.rows, s.cols, 75);
    const matrix<float> d = normal_matrix(1, s.rows, 76);
    const matrix<float> c = normal_matrix(1, s.cols, 77);
    const auto device_w = cuda::to_device(w.view());
    const auto device_q = cuda::to_device(q);
    const auto device_f = cuda::to_device(f.view());
    const auto device_d = cuda::to_device(d.view());
    const auto device_c = cuda::to_device(c.view());
    const cuda::device_view<const float> view = device_w.view();
    for (int kind = 0; kind < 5; ++kind) {
      CAPTURE(s.rows, s.cols, kind);
      cuda::device_metric metric;
      if (kind == 1 || kind == 3) metric.row_weights = device_d.data();
      if (kind == 2 || kind == 3) metric.col_weights = device_c.data();
      if (kind == 4) metric.elements = device_f.view();
      double expected[4] = {}; // plain and weighted, of W - Q and of W
      for (index_t i = 0; i < s.rows; ++i) {
        for (index_t j = 0; j < s.cols; ++j) {
          double weight = 1;
          if (metric.row_weights != nullptr) weight *= std::pow(static_cast<double>(d(0, i)), 2);
          if (metric.col_weights != nullptr) weight *= std::pow(static_cast<double>(c(0, j)), 2);
          if (kind == 4) weight = static_cast<double>(f(i, j));
          const double error = std::pow(static_cast<double>(w(i, j) - decoded(i, j)), 2);
          const double square = std::pow(static_cast<double>(w(i, j)), 2);
          expected[0] += error;
          expected[1] += weight * error;
          expected[2] += square;
          expected[3] += weight * square;
        }
      }
      // Sums of a few thousand doubles in another order; those with weights of both signs cancel.
      const auto check = [](double value, double reference, double size) {
        CHECK(is_near(value, reference, 1e-12 * size));
      };
      const energies residual =
          cuda::residual_energies<test_launcher>(view, device_q.view(), metric, nullptr);
      check(residual.frobenius, expected[0], expected[0]);
      check(residual.weighted, expected[1], 10 * expected[0]);
      const energies whole = cuda::weight_energies<test_launcher>(view, metric, nullptr);
      check(whole.frobenius, expected[2], expected[2]);
      check(whole.weighted, expected[3], 10 * expected[2]);
    }
  }
}

TEST_CASE("energies on a device: the same bits in any order of threads", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(9, 700, 79);
  const quantized_matrix q = make_quantizer("int3").quantize(w.view(), {}, {});
  std::optional<energies> first;
  in_every_order([&] {
    const auto device_w = cuda::to_device(w.view());
    const auto device_q = cuda::to_device(q);
    const energies sums = cuda::residual_energies<test_launcher>(
        cuda::device_view<const float>(device_w.view()), device_q.view(), {}, nullptr);
    if (!first) first = sums;
    CHECK(sums.frobenius == first->frobenius);
    CHECK(sums.weighted == sums.frobenius);
  });
}

TEST_CASE("quantized arithmetic on a device: other shapes are refused, empty ones do nothing", "[cuda]") {
  if (!has_device()) return;
  const matrix<float> w = awkward_matrix(3, 67, 83);
  const auto q = cuda::to_device(make_quantizer("nf4").quantize(w.view(), {}, {}));
  cuda::device_matrix<float> x(4, 67);
  const cuda::device_view<const float> read = std::as_const(x).view();
  const auto refused = [](const char* part, auto&& call) {
    CHECK(report_of(call).says(status_code::shape_mismatch, part));
  };
  refused("dequantize: out is 4 x 67, the quantized matrix is 3 x 67",
          [&] { cuda::dequantize_async<test_launcher>(q.view(), x.view(), nullptr); });
  refused("subtract_quantized: W is 4 x 67",
          [&] { cuda::subtract_quantized_async<test_launcher>(read, q.view(), x.view(), nullptr); });
  refused("extrapolate: X is 4 x 67",
          [&] { cuda::extrapolate_async<test_launcher>(q.view(), 1.0F, x.view(), nullptr); });
  refused("residual_energies: X is 4 x 67",
          [&] { (void)cuda::residual_energies<test_launcher>(read, q.view(), {}, nullptr); });
  cuda::device_metric metric;
  metric.elements = read;
  refused("residual_energies: F is 4 x 67", [&] {
    (void)cuda::residual_energies<test_launcher>(read.middle_rows(0, 3), q.view(), metric, nullptr);
  });
  refused("weight_energies: F is 4 x 67, W is 3 x 67",
          [&] { (void)cuda::weight_energies<test_launcher>(read.middle_rows(0, 3), metric, nullptr); });

  const auto none = cuda::to_device(make_quantizer("nf4").quantize(matrix<float>(0, 67).view(), {}, {}));
  cuda::dequantize_async<test_launcher>(none.view(), x.view().middle_rows(0, 0), nullptr);
  CHECK(cuda::residual_energies<test_launcher>(read.middle_rows(0, 0), none.view(), {}, nullptr).frobenius ==
        0);
  CHECK(cuda::weight_energies<test_launcher>(read.middle_rows(0, 0), {}, nullptr).weighted == 0);
}
