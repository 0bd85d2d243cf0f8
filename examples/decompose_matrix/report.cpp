// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/text.hpp>
#include <decompose_matrix/report.hpp>

#include <qlr/version.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

double bits_per_weight(const qlr::decomposition& parts) {
  return 8.0 * static_cast<double>(parts.storage_bytes()) / static_cast<double>(parts.rows() * parts.cols());
}

namespace {

double quantized_bits_per_weight(const qlr::decomposition& parts) {
  return 8.0 * static_cast<double>(parts.quantized.layout().storage_bytes()) /
         static_cast<double>(parts.rows() * parts.cols());
}

} // namespace

long long peak_rss_bytes() {
#if __has_include(<sys/resource.h>)
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
  return usage.ru_maxrss; // bytes
#else
  return 1024LL * usage.ru_maxrss; // kilobytes
#endif
#else
  return 0;
#endif
}

void print_header(const arguments& args, const weight_source& source, std::string_view metric,
                  const std::vector<std::string>& notes) {
  std::printf("%s%s%s  %lld x %lld, %s, %s, rank %lld\n", printable(args.input).c_str(),
              args.input.empty() ? "" : " ", printable(source.tensor).c_str(),
              static_cast<long long>(source.weight.rows()), static_cast<long long>(source.weight.cols()),
              args.method.c_str(), args.quantizer.c_str(), static_cast<long long>(args.rank));
  if (metric != "none") std::printf("metric: %s\n", std::string(metric).c_str());
  for (const std::string& note : notes) std::printf("note: %s\n", printable(note).c_str());
  std::printf("\niteration   error in the metric   relative Frobenius error\n");
}

void print_iteration(const qlr::iteration_report& iteration) {
  std::printf("%9d   %19.6f   %24.6f%s\n", iteration.iteration, iteration.weighted_error,
              iteration.relative_error, iteration.is_best ? "  *" : "");
  std::fflush(stdout);
}

void print_summary(const report& run) {
  const qlr::decomposition& parts = run.result.best;
  const double bits = bits_per_weight(parts);
  std::printf("\nkept iteration %d of %d (%s)\n", run.result.best_iteration, run.result.iterations_run,
              std::string(to_string(run.result.reason)).c_str());
  std::printf("relative error      %.6f   (Q alone %.6f)\n", run.relative_error,
              run.relative_error_quantized_only);
  if (run.relative_output_error) std::printf("output error        %.6f\n", *run.relative_output_error);
  std::printf("bits per weight     %.4f   (Q and scales %.4f, L and R %.4f)\n", bits,
              quantized_bits_per_weight(parts), bits - quantized_bits_per_weight(parts));
  std::printf("compression         %.2fx against fp16\n", 16.0 / bits);
  std::printf("seconds             %.3f   (SVD %.3f, quantization %.3f; %d threads, %s, SIMD %s)\n",
              run.seconds_total, run.result.seconds_svd, run.result.seconds_quantize, run.threads,
              run.svd_routine.c_str(), run.simd.c_str());
}

std::string to_json(const report& run) {
  const qlr::decompose_result& result = run.result;
  nlohmann::ordered_json json;
  json["qlr_version"] = qlr::version_string;
  json["input"] = run.args.input.empty() ? "built-in" : run.args.input;
  json["tensor"] = run.source.tensor;
  json["rows"] = run.source.weight.rows();
  json["cols"] = run.source.weight.cols();
  json["method"] = run.args.method;
  json["form"] = run.args.form;
  json["metric"] = run.metric;
  if (run.covariance != nullptr) {
    json["covariance_rank"] = run.covariance->rank;
    json["covariance_condition"] = run.covariance->largest / run.covariance->smallest;
  }
  json["notes"] = run.notes;
  json["quantizer"] = run.args.quantizer;
  json["group_size"] = result.best.quantized.layout().group_size;
  json["scale"] = to_string(result.best.quantized.layout().scales);
  json["factor_bits"] = run.args.factor_bits;
  json["rank"] = result.best.rank();
  json["iterations_run"] = result.iterations_run;
  json["best_iteration"] = result.best_iteration;
  json["stop_reason"] = to_string(result.reason);
  json["seed"] = run.args.seed;
  json["device"] = run.args.device;
  json["threads"] = run.threads;
  json["svd"] = run.svd_routine;
  json["simd"] = run.simd;
  json["relative_error"] = run.relative_error;
  json["relative_error_quantized_only"] = run.relative_error_quantized_only;
  json["relative_output_error"] = run.relative_output_error
                                      ? nlohmann::ordered_json(*run.relative_output_error)
                                      : nlohmann::ordered_json(nullptr);
  json["weighted_error"] = run.weighted_error;
  json["history"] = nlohmann::ordered_json::array();
  for (const qlr::iteration_report& iteration : result.history)
    json["history"].push_back(iteration.weighted_error);
  json["bits_per_weight"] = bits_per_weight(result.best);
  json["bits_per_weight_quantized"] = quantized_bits_per_weight(result.best);
  json["packed_bytes"] = result.best.storage_bytes();
  json["seconds_total"] = run.seconds_total;
  json["seconds_svd"] = result.seconds_svd;
  json["seconds_quantize"] = result.seconds_quantize;
  json["peak_rss_bytes"] = peak_rss_bytes();
  // A path that is not UTF-8 must not fail a run that is done.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}
