// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <compress_checkpoint/output_format.hpp>

#include <compress_checkpoint/selection.hpp>

#include <qlr/io/bitsandbytes.hpp>
#include <qlr/io/peft_writer.hpp>
#include <qlr/io/serialize.hpp>
#include <qlr/io/svdquant.hpp>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace {

using qlr::index_t;
using qlr::status_code;

index_t group_of(const qlr::compression_choice& choice) {
  return choice.format.group_size.value_or(qlr::find_format(choice.quantizer).group_size);
}

part qlr_part(const layer_task& task, const qlr::decomposition& parts) {
  qlr::io::decomposition_tensors stored = qlr::io::tensors_of(parts, task.name + ".");
  return {part_kind::base, std::move(stored.tensors), std::move(stored.metadata)};
}

std::vector<part> bitsandbytes_parts(const layer_task& task, const qlr::decomposition& parts) {
  std::vector<part> result;
  result.push_back({part_kind::base, qlr::io::bitsandbytes_tensors(task.name, parts.quantized.view()), {}});
  if (parts.rank() == 0) return result;
  const auto type = parts.factors == qlr::factor_storage::fp16 ? qlr::io::dtype::f16 : qlr::io::dtype::f32;
  result.push_back(
      {part_kind::adapter,
       qlr::io::peft_tensors(module_of(task.name), parts.left.view(), parts.right.view(), parts.scale, type),
       {}});
  return result;
}

} // namespace

std::string module_of(const std::string& tensor) {
  constexpr std::string_view ending = ".weight";
  return tensor.ends_with(ending) ? tensor.substr(0, tensor.size() - ending.size()) : tensor;
}

void check_store(const std::string& store, const std::string& method, const qlr::compression_choice& choice) {
  if (store == "qlr") return;
  const auto refuse = [&](bool is_wrong, std::string_view option, const auto& value,
                          std::string_view allowed) {
    qlr::require(!is_wrong, status_code::invalid_argument, option, " is '", value, "', --store ", store,
                 " takes ", allowed);
  };
  const std::string& quantizer = choice.quantizer;
  if (store == "svdquant") {
    const bool is_int = quantizer == "int4";
    refuse(!is_int && quantizer != "nvfp4", "quantizer", quantizer, "int4 and nvfp4");
    refuse(is_int && group_of(choice) != 64, "group_size", group_of(choice), "groups of 64");
    const qlr::scale_format scales = choice.format.scales.value_or(qlr::find_format(quantizer).scales);
    refuse(is_int && to_string(scales) != "bf16", "scale", to_string(scales), "bf16");
    return;
  }
  refuse(method == "svdquant", "method", method, "methods that do not scale the inputs");
  if (store == "gguf") {
    const bool is_block = quantizer == "q4_0" || quantizer == "iq4_nl" || quantizer == "q8_0";
    return refuse(!is_block, "quantizer", quantizer, "q4_0, iq4_nl and q8_0");
  }
  refuse(quantizer != "nf4", "quantizer", quantizer, "nf4");
  constexpr auto groups = std::to_array<index_t>({32, 64, 128, 256, 512, 1024, 2048, 4096});
  refuse(std::ranges::find(groups, group_of(choice)) == groups.end(), "group_size", group_of(choice),
         "32, 64, 128, ... 4096");
}

std::string objection(const std::string& store, const layer_task& task) {
  const index_t group = group_of(task.choice);
  if (store == "qlr") return {};
  if (store == "gguf" && task.cols % 32 != 0) return "its rows are no multiple of 32, the size of a block";
  if (group > 0 && task.cols % group != 0) {
    return qlr::sentence("its rows are no multiple of ", group, ", the size of a group");
  }
  return {};
}

std::vector<part> make_parts(const std::string& store, const layer_task& task,
                             const qlr::decomposition& parts) {
  if (store == "bitsandbytes") return bitsandbytes_parts(task, parts);
  if (store == "svdquant")
    return {{part_kind::base, qlr::io::svdquant_tensors(module_of(task.name), parts), {}}};
  return {qlr_part(task, parts)};
}
