// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <common/command_line.hpp>

#include <qlr/decompose/presets.hpp>
#include <qlr/version.hpp>

#include <array>
#include <charconv>
#include <cstdlib>
#include <system_error>

namespace {

std::string method_help() {
  std::string text = "\nMethods:\n";
  for (const qlr::preset& method : qlr::presets) {
    text += qlr::sentence("  ", std::string(method.name).append(14 - method.name.size(), ' '), method.summary,
                          " (", method.source, ")\n");
  }
  text += "\nQuantizers (bits, default group size, default scales):\n";
  for (const qlr::format_description& format : qlr::named_formats) {
    text +=
        qlr::sentence("  ", std::string(format.name).append(9 - format.name.size(), ' '), format.bits, "  ",
                      format.group_size, "  ", qlr::to_string(format.scales), "  ", format.summary, '\n');
  }
  return text;
}

/// CLI11 takes negative numbers modulo 2^64 and cuts large ones.
std::string check_seed(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = code == std::errc() && end == text.data() + text.size();
  return is_number ? "" : "seed is " + text + ", allowed are 0 to 2^64 - 1";
}

} // namespace

void add_decomposition_options(CLI::App& app, decomposition_arguments& args, const char* seed_help) {
  app.footer(&method_help);
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("--method", args.method, "see below")->capture_default_str();
  app.add_option("--quantizer", args.quantizer, "see below (default: nf4, int4 or bfp4, by method)");
  app.add_option("--group-size", args.format.group_size,
                 "elements per scale along a row; 0 = per row, -1 = per tensor");
  app.add_option("--scale", args.scale,
                 "fp32 | fp16 | bf16 | e8m0 | dq[:bits,type,block] | dq-bnb (default fp16)");
  app.add_flag("--scale-search", args.format.scale_search, "error-minimising scales (best always searches)");
  app.add_option("--factor-bits", args.factor_bits, "storage of L and R: 32, 16, 8 or 4")
      ->capture_default_str();
  app.add_option("--rank", args.rank, "0 to min(rows, cols)")->capture_default_str();
  app.add_option("--iterations", args.iterations, "at most this many (default: by method)");
  app.add_option("--seed", args.seed, seed_help)->capture_default_str()->check(&check_seed);
  app.add_option("--svd", args.svd, "exact | randomized")->capture_default_str();
  app.add_option("--threads", args.threads, "0 = all; results do not depend on it")->capture_default_str();
}

void parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) { // --help, --version
    std::exit(app.exit(request));
  } catch (const CLI::ParseError& failure) {
    qlr::fail(qlr::status_code::invalid_argument, failure.what());
  }
  for (const CLI::Option* option : app.get_options()) {
    // An unset variable of a script must not select the default without a word.
    const bool is_empty = option->count() == 1 && option->results().front().empty();
    qlr::require(!is_empty, qlr::status_code::invalid_argument, option->get_name(),
                 " is empty; leave it out or give it a value");
  }
}

void require_one_of(std::string_view option, std::string_view value,
                    std::span<const std::string_view> names) {
  std::string allowed;
  for (const std::string_view name : names) {
    if (value == name) return;
    allowed += qlr::sentence(allowed.empty() ? "" : ", ", name);
  }
  qlr::fail(qlr::status_code::invalid_argument, option, " is '", value, "', allowed are ", allowed);
}

void check_threads(int threads) {
  constexpr int max_threads = 1024;
  qlr::require(threads >= 0 && threads <= max_threads, qlr::status_code::invalid_argument, "threads is ",
               threads, ", allowed are 0 (one per hardware thread) to ", max_threads);
}

void check_decomposition_arguments(decomposition_arguments& args) {
  constexpr auto svd_names = std::to_array<std::string_view>({"exact", "randomized"});
  if (!args.scale.empty()) args.format.scales = qlr::parse_scale_format(args.scale);
  require_one_of("svd", args.svd, svd_names);
  (void)qlr::factor_storage_of_bits(args.factor_bits);
  check_threads(args.threads);
  const qlr::preset& method = qlr::find_preset(args.method);
  if (args.quantizer.empty()) args.quantizer = method.quantizer;
}

qlr::decompose_options make_options(const decomposition_arguments& args) {
  qlr::decompose_options options;
  options.rank = args.rank;
  options.steps = qlr::find_preset(args.method).steps;
  if (args.iterations) options.steps.iterations = *args.iterations;
  options.svd = args.svd == "exact" ? qlr::svd_method::exact : qlr::svd_method::randomized;
  options.factors = qlr::factor_storage_of_bits(args.factor_bits);
  options.sketch.seed = args.seed;
  return options;
}
