// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <decompose_matrix/arguments.hpp>
#include <decompose_matrix/gpu.hpp>

#include <array>
#include <string_view>

arguments parse_arguments(int argc, char** argv) {
  arguments result;
  CLI::App app{
      "Splits a weight matrix into a quantized and a low-rank part, W ~= Q + L R, and reports the error of "
      "every iteration."};
  app.add_option("INPUT", result.input, ".safetensors or .npy; without it a built-in 1024 x 1024 matrix");
  app.add_option("--tensor", result.tensor, "tensor of a .safetensors file (default: the largest 2-D one)");
  app.add_flag("--list", result.list, "print name, type and shape of all tensors and stop");
  add_decomposition_options(app, result, "of the built-in matrix and of the randomized SVD");
  app.add_option("--device", result.device, "cpu | cuda")->capture_default_str();
  app.add_option(
      "--calibration", result.calibration,
      ".npy with X (t,n); .safetensors with X, abs_mean (n), rms (n), covariance (n,n), fisher (m,n); or an "
      "importance matrix (.gguf, .dat, .imatrix)");
  app.add_option("--metric", result.metric,
                 "none | fisher | diagonal | covariance (default: what the method can use)");
  app.add_option("--damping", result.damping,
                 "times the mean variance, added to the diagonal of the covariance (default 0, best 0.01)");
  app.add_flag("--feedback", result.feedback, "GPTQ's error feedback in the quantize step of any method");
  app.add_option("--polish", result.polish,
                 "at most this many rounds of coordinate descent and a refit of L R after any method");
  app.add_option("--activation-bits", result.activation_bits,
                 "svdquant: 16, or 2 to 8 for inputs quantized in groups of 64")
      ->capture_default_str();
  app.add_option("--form", result.form, "joint | fixed_q: only L and R are found")->capture_default_str();
  app.add_option("--given", result.given,
                 "fixed_q: take Q from this decomposition, written by --output (default: W rounded)");
  app.add_option("--output", result.output, "write the packed decomposition (.safetensors)");
  app.add_option("--reconstruct", result.reconstruct, "write dense Q, L, R and W_hat (.safetensors)");
  app.add_option("--json", result.json, "write the report; - is standard output and implies --quiet");
  app.add_flag("--quiet", result.quiet, "no table, no progress");
  parse(app, argc, argv);
  if (result.json == "-") result.quiet = true;
  constexpr auto devices = std::to_array<std::string_view>({"cpu", "cuda"});
  constexpr auto metrics = std::to_array<std::string_view>({"none", "fisher", "diagonal", "covariance"});
  constexpr auto forms = std::to_array<std::string_view>({"joint", "fixed_q"});
  require_one_of("form", result.form, forms);
  qlr::require(result.given.empty() || result.form == "fixed_q", qlr::status_code::invalid_argument,
               "--given is '", result.given, "', it needs --form fixed_q");
  require_one_of("device", result.device, devices);
  if (result.device == "cuda") require_gpu();
  if (!result.metric.empty()) require_one_of("metric", result.metric, metrics);
  check_decomposition_arguments(result);
  return result;
}
