// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/publisher.hpp>
#include <compress_checkpoint/selection.hpp>

#include <qlr/decompose/result.hpp>
#include <qlr/io/gguf_llama.hpp>

#include <string>
#include <vector>

/// The model of a checkpoint, by the config.json beside it, with the tokenizer of --gguf-vocabulary.
///
/// @throws qlr::error as qlr::io::gguf_llama; io_failure: config.json cannot be read
/// @throws qlr::error unsupported: a tensor that no model with Llama's layers has
[[nodiscard]] qlr::io::gguf_llama open_llama(const qlr::io::checkpoint_folder& input, const arguments& args);

/// Writes a compressed tensor as GGUF files in the work folder, one for Q, one for L R; returns their names.
[[nodiscard]] std::vector<std::string> write_gguf_parts(const qlr::io::gguf_llama& model,
                                                        const layer_task& task,
                                                        const qlr::decomposition& parts, const journal& work);

/// Joins the parts and what stays as it is to model.gguf and adapter.gguf.
///
/// @memory one tensor in fp32
void assemble_gguf(const qlr::io::checkpoint_folder& input, const selection& chosen, const arguments& args,
                   const journal& work, const publisher& out);
