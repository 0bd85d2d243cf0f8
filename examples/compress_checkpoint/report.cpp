// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/report.hpp>

#include <common/text.hpp>
#include <compress_checkpoint/checksum.hpp>

#include <qlr/io/mapped_file.hpp>
#include <qlr/version.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>

namespace {

using qlr::index_t;

/// Size and header, which holds the names, types, shapes and places of the tensors.
ordered_json fingerprint(const qlr::io::checkpoint_folder& input, std::size_t shard) {
  const qlr::io::mapped_file file(input.folder() + "/" + input.shard_name(shard));
  std::uint64_t length = 0; // checked when the file was opened
  std::memcpy(&length, file.bytes().data(), sizeof length);
  crc64 sum;
  sum.add(file.bytes().first(sizeof length + static_cast<std::size_t>(length)));
  return {{"name", input.shard_name(shard)}, {"bytes", file.size()}, {"header", sum.value()}};
}

ordered_json checksum_of(const std::string& path) {
  if (path.empty()) return nullptr;
  const qlr::io::mapped_file file(path);
  crc64 sum;
  sum.add(file.bytes());
  return sum.value();
}

template <class T>
ordered_json value_or_null(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

index_t bytes_of(const qlr::io::tensor_info& tensor) {
  return tensor.end_bytes - tensor.begin_bytes;
}

/// Sums over all compressed tensors.
ordered_json totals_of(const ordered_json& tensors, double seconds, index_t input_bytes,
                       index_t output_bytes) {
  double error = 0;
  double energy = 0;
  index_t weights = 0;
  index_t bytes = 0;
  for (const ordered_json& tensor : tensors) {
    const auto squares = tensor.at("energy").get<double>();
    energy += squares;
    error += squares * std::pow(tensor.at("relative_error").get<double>(), 2);
    weights += tensor.at("rows").get<index_t>() * tensor.at("cols").get<index_t>();
    bytes += tensor.at("bytes").get<index_t>();
  }
  return {{"compressed_weights", weights},
          {"compressed_bytes", bytes},
          {"input_bytes", input_bytes},
          {"output_bytes", output_bytes},
          {"bits_per_weight",
           weights > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(weights) : 0.0},
          {"relative_error", energy > 0 ? std::sqrt(error / energy) : 0.0},
          {"seconds", seconds}};
}

double megabytes(const ordered_json& bytes) {
  return bytes.get<double>() / 1e6;
}

} // namespace

ordered_json settings_of(const qlr::io::checkpoint_folder& input, const arguments& args) {
  ordered_json settings{{"qlr_version", qlr::version_string}};
  settings["store"] = args.store;
  settings["one_file"] = args.one_file;
  settings["include"] = args.include;
  settings["exclude"] = args.exclude;
  settings["plan"] = checksum_of(args.plan);
  settings["method"] = args.method;
  settings["quantizer"] = args.quantizer;
  settings["group_size"] = value_or_null(args.format.group_size);
  settings["scale"] =
      args.format.scales ? ordered_json(to_string(*args.format.scales)) : ordered_json(nullptr);
  settings["scale_search"] = args.format.scale_search;
  settings["factor_bits"] = args.factor_bits;
  settings["rank"] = args.rank;
  settings["iterations"] = value_or_null(args.iterations);
  settings["seed"] = args.seed;
  settings["svd"] = args.svd;
  settings["calibration"] = args.calibration;
  settings["spectrum"] = args.spectrum;
  settings["gguf_vocabulary"] = checksum_of(args.gguf_vocabulary);
  settings["input"] = ordered_json::array();
  for (std::size_t i = 0; i < input.num_shards(); ++i) settings["input"].push_back(fingerprint(input, i));
  return settings;
}

ordered_json make_report(const qlr::io::checkpoint_folder& input, const selection& chosen,
                         const arguments& args, const journal& work, int num_processes, int num_threads,
                         double seconds, index_t output_bytes) {
  ordered_json report{{"qlr_version", qlr::version_string},
                      {"input", args.input},
                      {"output", args.output},
                      {"format", args.store}};
  report["settings"] = settings_of(input, args);
  for (const char* const key :
       {"method", "quantizer", "group_size", "scale", "rank", "factor_bits", "seed"}) {
    report[key] = report["settings"][key];
  }
  report["threads"] = num_threads;
  report["processes"] = num_processes;
  report["tensors"] = ordered_json::array();
  for (const layer_task& task : chosen.layers)
    report["tensors"].push_back(work.record(task.name).at("report"));
  report["kept"] = ordered_json::array();
  for (const kept_tensor& kept : chosen.kept) {
    const qlr::io::tensor_info& tensor = input.shard(kept.shard_index).find(kept.name);
    report["kept"].push_back({{"name", kept.name},
                              {"shape", tensor.shape},
                              {"dtype", tensor.dtype_text},
                              {"bytes", bytes_of(tensor)},
                              {"reason", kept.reason}});
  }
  index_t input_bytes = 0;
  index_t weights = 0;
  for (const qlr::io::checkpoint_tensor& tensor : input.tensors()) {
    input_bytes += bytes_of(*tensor.info);
    if (tensor.info->type) weights += bytes_of(*tensor.info) / qlr::io::dtype_bytes(*tensor.info->type);
  }
  report["totals"] = totals_of(report["tensors"], seconds, input_bytes, output_bytes);
  report["totals"]["weights"] = weights;
  return report;
}

void print_selection(const selection& chosen) {
  for (const layer_task& task : chosen.layers) {
    std::printf("%-56s  %lld x %lld  %s\n", printable(task.name).c_str(), static_cast<long long>(task.rows),
                static_cast<long long>(task.cols), to_string(task.choice).c_str());
  }
  for (const kept_tensor& tensor : chosen.kept) {
    std::printf("%-56s  kept: %s\n", printable(tensor.name).c_str(), printable(tensor.reason).c_str());
  }
}

void print_summary(const ordered_json& report) {
  std::printf("%-56s  %14s  %9s  %9s  %8s\n", "tensor", "shape", "bits", "error", "seconds");
  for (const ordered_json& tensor : report.at("tensors")) {
    const std::string shape =
        qlr::sentence(tensor.at("rows").get<index_t>(), " x ", tensor.at("cols").get<index_t>());
    std::printf("%-56s  %14s  %9.4f  %9.6f  %8.2f\n", printable(tensor.at("name").get<std::string>()).c_str(),
                shape.c_str(), tensor.at("bits_per_weight").get<double>(),
                tensor.at("relative_error").get<double>(), tensor.at("seconds").get<double>());
    for (const ordered_json& note : tensor.at("notes")) {
      std::printf("  note: %s\n", printable(note.get<std::string>()).c_str());
    }
  }
  const ordered_json& totals = report.at("totals");
  std::printf("\n%zu tensors compressed, %zu kept as they are\n", report.at("tensors").size(),
              report.at("kept").size());
  std::printf("bits per weight     %.4f of what was compressed\n",
              totals.at("bits_per_weight").get<double>());
  std::printf("relative error      %.6f\n", totals.at("relative_error").get<double>());
  std::printf("size                %.2f MB, was %.2f MB\n", megabytes(totals.at("output_bytes")),
              megabytes(totals.at("input_bytes")));
  std::printf("seconds             %.2f\n", totals.at("seconds").get<double>());
}
