// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT

// Quantizes every pair of a LoRA adapter in mixed precision; --help tells the rest.
#include <common/output.hpp>
#include <common/program.hpp>
#include <quantize_adapter/arguments.hpp>
#include <quantize_adapter/report.hpp>

#include <qlr/host/quantize_adapter.hpp>
#include <qlr/io/adapter.hpp>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using qlr::index_t;
using clock_type = std::chrono::steady_clock;

void write_packed(const std::string& path, const report& result) {
  std::vector<qlr::io::named_adapter> adapters;
  for (std::size_t i = 0; i < result.results.size(); ++i) {
    const qlr::io::peft_pair& pair = result.pairs[i];
    adapters.push_back({pair.module, pair.left_name, pair.right_name, result.results[i].adapter});
  }
  qlr::io::save_adapters(path, adapters);
}

std::string in_folder(const std::string& folder, const char* name) {
  return folder.empty() ? folder : (std::filesystem::path(folder) / name).string();
}

void write_peft(const arguments& args, const qlr::io::peft_file& source, const report& result) {
  std::vector<qlr::io::peft_factors> factors;
  for (const qlr::adapter_result& pair : result.results) {
    factors.push_back({qlr::dequantize_left(pair.adapter), qlr::dequantize_right(pair.adapter)});
  }
  qlr::io::save_peft(in_folder(args.peft, "adapter_model.safetensors"), source, factors,
                     args.peft_type == "fp32" ? qlr::io::dtype::f32 : qlr::io::dtype::f16);
}

void run(const arguments& args) {
  const qlr::io::peft_file source(args.input);
  qlr::require(!source.pairs().empty(), qlr::status_code::unsupported, "'", args.input,
               "' has no pair of tensors named lora_A and lora_B");
  check_outputs({args.output, in_folder(args.peft, "adapter_model.safetensors"),
                 in_folder(args.peft, "adapter_config.json"), args.json == "-" ? "" : args.json});
  qlr::thread_pool pool(args.threads);
  const qlr::executor threads(pool);
  const auto start = clock_type::now();
  report result{args, source.pairs(), {}, {}};
  result.results.resize(source.pairs().size());
  result.norms.resize(source.pairs().size());
  const auto num_pairs = static_cast<index_t>(source.pairs().size());
  // Many pairs keep the threads busy by themselves; work inside a task runs on its own thread.
  qlr::for_each_range(threads, num_pairs, 1, [&](index_t begin, index_t) {
    const auto i = static_cast<std::size_t>(begin);
    const qlr::io::peft_pair& pair = source.pairs()[i];
    const qlr::matrix<float> left = source.left(pair);
    const qlr::matrix<float> right = source.right(pair);
    const qlr::matrix_view<const float> left_view = left.view();
    const qlr::matrix_view<const float> right_view = right.view();
    result.results[i] = qlr::quantize_adapter(left_view, right_view, args.options, pair.scale, threads);
    result.norms[i] = static_cast<double>(pair.scale) * result.results[i].norm;
  });
  result.seconds = std::chrono::duration<double>(clock_type::now() - start).count();
  result.threads = pool.num_threads();
  if (!args.output.empty()) write_packed(args.output, result);
  if (!args.peft.empty()) write_peft(args, source, result);
  if (!args.quiet) print_table(result);
  if (!args.json.empty()) write_text(args.json, to_json(result));
}

} // namespace

int main(int argc, char** argv) {
  return run_program("quantize_adapter", [&] { run(parse_arguments(argc, argv)); });
}
