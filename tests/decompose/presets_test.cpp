// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <qlr/decompose/presets.hpp>

#include <decompose/support.hpp>
#include <support/catch.hpp>

#include <algorithm>
#include <iterator>
#include <set>
#include <string>

using namespace qlr;
using namespace qlr::test;

TEST_CASE("presets: every method is found by its own unique name", "[decompose]") {
  std::set<std::string_view> names;
  for (const preset& method : presets) {
    CAPTURE(std::string(method.name));
    CHECK(&find_preset(method.name) == &method);
    CHECK(names.insert(method.name).second);
    CHECK_FALSE(method.source.empty());
    CHECK_FALSE(method.summary.empty());
    CHECK(method.steps.iterations >= 1);
    CHECK(find_format(method.quantizer).name == method.quantizer);
    // what the tests of this room run
    CHECK(std::find(std::begin(all_methods), std::end(all_methods), method.name) != std::end(all_methods));
  }
}

TEST_CASE("presets: an unknown method is refused with all names", "[decompose]") {
  for (const std::string_view name : {"", "LoftQ", "loftq ", "svdquant?"}) {
    const report found = report_of([&] { (void)find_preset(name); });
    CHECK(found.says(status_code::invalid_argument, sentence("method is '", name, "', allowed are ")));
    for (const preset& method : presets) CHECK(found.says(status_code::invalid_argument, method.name));
  }
}

TEST_CASE("presets: the schedules are those of the papers", "[decompose]") {
  CHECK_FALSE(find_preset("qlora").steps.has_low_rank);
  const schedule& loftq = find_preset("loftq").steps;
  CHECK(loftq.first == half_step::quantize);
  CHECK(loftq.iterations == 5);
  CHECK(loftq.stop == stop_rule::never);
  const schedule& lq_lora = find_preset("lq-lora").steps;
  CHECK(lq_lora.first == half_step::low_rank);
  CHECK(lq_lora.iterations == 100);
  CHECK(lq_lora.stop == stop_rule::error_rises);
  CHECK(find_preset("lq-lora").uses == calibration_use::fisher);
  CHECK(find_preset("zeroquant-v2").steps.iterations == 1);
  CHECK(find_preset("lqer").steps.iterations == 1);
  CHECK(find_preset("lqer").steps.split == sigma_split::left);
  CHECK(find_preset("lqer").quantizer == "bfp4");
}

TEST_CASE("presets: stop reasons have names", "[decompose]") {
  std::set<std::string_view> names;
  for (const stop_reason reason :
       {stop_reason::iterations_done, stop_reason::error_rose, stop_reason::stalled, stop_reason::exact}) {
    CHECK_FALSE(to_string(reason).empty());
    CHECK(names.insert(to_string(reason)).second);
  }
}
