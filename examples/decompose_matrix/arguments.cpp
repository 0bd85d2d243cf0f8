// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <decompose_matrix/arguments.hpp>

#include <qlr/decompose/presets.hpp>
#include <qlr/version.hpp>

#include <CLI/CLI.hpp>

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string>
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

} // namespace

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  std::optional<qlr::index_t> group_size;
  std::string scale;
  CLI::App app{
      "Splits a weight matrix into a quantized and a low-rank part, W ~= Q + L R, and reports the error of "
      "every iteration."};
  app.footer(&method_help);
  app.set_version_flag("--version", std::string("qlr ") + qlr::version_string);
  app.add_option("INPUT", result.input, ".safetensors or .npy; without it a built-in 1024 x 1024 matrix");
  app.add_option("--tensor", result.tensor, "tensor of a .safetensors file (default: the largest 2-D one)");
  app.add_flag("--list", result.list, "print name, type and shape of all tensors and stop");
  app.add_option("--method", result.method, "see below")->capture_default_str();
  app.add_option("--quantizer", result.quantizer, "see below (default: nf4, int4 or bfp4, by method)");
  app.add_option("--group-size", group_size, "elements per scale along a row; 0 = per row, -1 = per tensor");
  app.add_option("--scale", scale,
                 "fp32 | fp16 | bf16 | e8m0 | dq[:bits,type,block] | dq-bnb (default fp16)");
  app.add_flag("--scale-search", result.format.scale_search,
               "error-minimising scales (best always searches)");
  app.add_option("--factor-bits", result.factor_bits, "storage of L and R: 32, 16, 8 or 4")
      ->capture_default_str();
  app.add_option("--rank", result.rank, "0 to min(rows, cols)")->capture_default_str();
  app.add_option("--iterations", result.iterations, "at most this many (default: by method)");
  app.add_option("--seed", result.seed, "of the built-in matrix and of the randomized SVD")
      ->capture_default_str()
      ->check([](const std::string& text) { // CLI11 takes negative numbers modulo 2^64 and cuts large ones
        std::uint64_t value = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool is_number = code == std::errc() && end == text.data() + text.size();
        return is_number ? "" : "seed is " + text + ", allowed are 0 to 2^64 - 1";
      });
  app.add_option("--svd", result.svd, "exact | randomized")->capture_default_str();
  app.add_option("--threads", result.threads, "0 = all; results do not depend on it")->capture_default_str();
  app.add_option("--device", result.device, "cpu")->capture_default_str();
  app.add_option(
      "--calibration", result.calibration,
      ".npy with X (t,n), or .safetensors with X, abs_mean (n), rms (n), covariance (n,n), fisher (m,n)");
  app.add_option("--metric", result.metric, "none | fisher | diagonal (default: what the method can use)");
  app.add_option("--output", result.output, "write the packed decomposition (.safetensors)");
  app.add_option("--reconstruct", result.reconstruct, "write dense Q, L, R and W_hat (.safetensors)");
  app.add_option("--json", result.json, "write the report; - is standard output and implies --quiet");
  app.add_flag("--quiet", result.quiet, "no table, no progress");
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
  result.format.group_size = group_size;
  if (!scale.empty()) result.format.scales = qlr::parse_scale_format(scale);
  if (result.json == "-") result.quiet = true;
  const auto require_one_of = [](const char* option, const std::string& value,
                                 std::initializer_list<const char*> names) {
    std::string allowed;
    for (const char* name : names) {
      if (value == name) return;
      allowed += qlr::sentence(allowed.empty() ? "" : ", ", name);
    }
    qlr::fail(qlr::status_code::invalid_argument, option, " is '", value, "', allowed are ", allowed);
  };
  require_one_of("svd", result.svd, {"exact", "randomized"});
  require_one_of("device", result.device, {"cpu"});
  if (!result.metric.empty()) require_one_of("metric", result.metric, {"none", "fisher", "diagonal"});
  (void)qlr::factor_storage_of_bits(result.factor_bits);
  constexpr int max_threads = 1024;
  qlr::require(result.threads >= 0 && result.threads <= max_threads, qlr::status_code::invalid_argument,
               "threads is ", result.threads, ", allowed are 0 (one per hardware thread) to ", max_threads);
  const qlr::preset& method = qlr::find_preset(result.method);
  if (result.quantizer.empty()) result.quantizer = method.quantizer;
  return result;
}
