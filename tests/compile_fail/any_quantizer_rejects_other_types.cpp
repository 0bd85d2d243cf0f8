// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
// EXPECT: (could not convert|no matching function|no viable conversion|conversion from)

#include <qlr/quant/formats.hpp>

struct not_a_quantizer {
  [[nodiscard]] static std::string name() { return "no layout, no quantize"; }
};

qlr::any_quantizer make() {
#ifdef QLR_MISTAKE
  return not_a_quantizer{};
#else
  return qlr::make_quantizer("nf4");
#endif
}
