// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Runs one layer as an inference engine would: maps a saved decomposition, packs it, and multiplies with
// threads of its own. Usage: run_layer [DECOMPOSITION.safetensors] [THREADS]; without a file it makes one.
#include <run_layer/sample.hpp>

#include <qlr/core/random.hpp>
#include <qlr/io/serialize.hpp>
#include <qlr/matmul.hpp>

#include <algorithm>
#include <barrier>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using qlr::index_t;

/// Threads that an engine keeps for all its layers; the caller is one of them.
class engine {
public:
  explicit engine(int num_threads) : num_threads_(num_threads), start_(num_threads), step_(num_threads) {
    for (int part = 1; part < num_threads; ++part) workers_.emplace_back([this, part] { work(part); });
  }
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  ~engine() {
    call_ = nullptr;
    start_.arrive_and_wait();
    for (std::thread& worker : workers_) worker.join();
  }

  [[nodiscard]] int num_threads() const { return num_threads_; }

  /// Every thread takes its share of each phase; a phase begins when the one before it is done everywhere.
  void run(const qlr::matmul_call<float>& call) {
    call_ = &call;
    start_.arrive_and_wait();
    run_part(call, 0);
  }

private:
  void run_part(const qlr::matmul_call<float>& call, int part) {
    for (int phase = 0; phase < call.num_phases; ++phase) {
      call.run(phase, part, num_threads_);
      step_.arrive_and_wait();
    }
  }

  void work(int part) {
    for (;;) {
      start_.arrive_and_wait();
      if (call_ == nullptr) return;
      run_part(*call_, part);
    }
  }

  int num_threads_;
  const qlr::matmul_call<float>* call_ = nullptr; // changes only while the workers wait at start_
  std::barrier<> start_;
  std::barrier<> step_;
  std::vector<std::thread> workers_; // last: they use the other members
};

/// The largest error of any y, and the largest |y|, against dequantization and plain loops in double.
struct comparison {
  double largest_error = 0;
  double largest_value = 0;
};

comparison compare(const qlr::io::decomposition_file& file, qlr::matrix_view<const float> x,
                   qlr::matrix_view<const float> y) {
  comparison result;
  const std::vector<float>& smoothing = file.input_scales();
  qlr::for_each_decoded_row(file.quantized(), {}, [&](index_t i, const float* row) {
    for (index_t t = 0; t < x.rows(); ++t) {
      double sum = 0;
      for (index_t j = 0; j < x.cols(); ++j) {
        const double divisor =
            smoothing.empty() ? 1.0 : static_cast<double>(smoothing[static_cast<std::size_t>(j)]);
        sum += static_cast<double>(row[j]) * static_cast<double>(x(t, j)) / divisor;
      }
      for (index_t k = 0; k < file.right().rows(); ++k) {
        double projected = 0; // (R x)_k
        for (index_t j = 0; j < x.cols(); ++j)
          projected += static_cast<double>(file.right()(k, j)) * static_cast<double>(x(t, j));
        sum += static_cast<double>(file.scale()) * static_cast<double>(file.left()(i, k)) * projected;
      }
      result.largest_error = std::max(result.largest_error, std::abs(static_cast<double>(y(t, i)) - sum));
      result.largest_value = std::max(result.largest_value, std::abs(sum));
    }
  });
  return result;
}

/// Median seconds of a call.
double measure(engine& threads, const qlr::matmul_call<float>& call) {
  using clock = std::chrono::steady_clock;
  constexpr int num_repeats = 101;
  std::vector<double> seconds(num_repeats);
  for (double& value : seconds) {
    const auto start = clock::now();
    threads.run(call);
    value = std::chrono::duration<double>(clock::now() - start).count();
  }
  std::nth_element(seconds.begin(), seconds.begin() + num_repeats / 2, seconds.end());
  return seconds[num_repeats / 2];
}

bool run_layer(const std::string& path, int num_threads) {
  const qlr::io::decomposition_file file(path); // codes and scales stay in the mapped file
  const qlr::packed_weights packed = qlr::prepack(file);
  std::printf("%lld x %lld, %d bits, rank %lld, %lld bytes packed; %s, %d threads\n",
              static_cast<long long>(packed.rows()), static_cast<long long>(packed.cols()),
              packed.layout().bits, static_cast<long long>(packed.low_rank().rank()),
              static_cast<long long>(packed.size_bytes()),
              std::string(to_string(packed.instruction_set())).c_str(), num_threads);

  engine threads(num_threads);
  bool is_right = true;
  for (const index_t tokens : {index_t{1}, index_t{8}}) {
    qlr::matrix<float> x(tokens, packed.cols());
    qlr::matrix<float> y(tokens, packed.rows());
    for (index_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(qlr::normal_at(5, i));
    qlr::matmul_workspace workspace(packed, tokens, qlr::precision::exact);
    const qlr::matmul_options options;
    const qlr::matmul_call<float> call(packed, x.view(), y.view(), options, workspace);
    const double seconds = measure(threads, call);
    const comparison found = compare(file, x.view(), y.view());
    // Errors grow with the terms that cancel, far below this share of the largest result.
    const bool is_close = found.largest_error <= 1e-5 * found.largest_value;
    is_right = is_right && is_close;
    std::printf("%lld tokens  %.2f us per token  %.2f GB/s of weights  largest error %.1e of %.1e%s\n",
                static_cast<long long>(tokens), 1e6 * seconds / static_cast<double>(tokens),
                1e-9 * static_cast<double>(packed.size_bytes()) / seconds, found.largest_error,
                found.largest_value, is_close ? "" : "  WRONG");
  }
  return is_right;
}

int parse_threads(const char* text) {
  int value = 0;
  const auto [end, code] = std::from_chars(text, text + std::strlen(text), value);
  qlr::require(code == std::errc() && *end == '\0' && value >= 1 && value <= 1024,
               qlr::status_code::invalid_argument, "threads is '", text, "', allowed are 1 to 1024");
  return value;
}

} // namespace

int main(int argc, char** argv) {
  try {
    qlr::require(argc <= 3, qlr::status_code::invalid_argument, "there are ", argc - 1,
                 " arguments, allowed are a file and the number of threads");
    const int num_threads = argc > 2 ? parse_threads(argv[2])
                                     : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    if (argc > 1) return run_layer(argv[1], num_threads) ? EXIT_SUCCESS : EXIT_FAILURE;
    const sample_file sample;
    return run_layer(sample.path(), num_threads) ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "run_layer: %s\n", failure.what());
    return 2;
  }
}
