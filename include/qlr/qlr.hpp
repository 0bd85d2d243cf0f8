// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Everything that needs no CUDA: the decomposer on Eigen, all quantizers, the fused product, and the readers
// and writers of files.

#include <qlr/allocate/knapsack.hpp>
#include <qlr/core/error_metrics.hpp>
#include <qlr/decompose/calibration.hpp>
#include <qlr/decompose/concatenate.hpp>
#include <qlr/decompose/merge.hpp>
#include <qlr/host/activation_statistics.hpp>
#include <qlr/host/calibration.hpp>
#include <qlr/host/cost_table.hpp>
#include <qlr/host/covariance.hpp>
#include <qlr/host/decompose.hpp>
#include <qlr/host/matmul.hpp>
#include <qlr/host/method_metric.hpp>
#include <qlr/host/output_error.hpp>
#include <qlr/host/quantize_adapter.hpp>
#include <qlr/io/adapter.hpp>
#include <qlr/io/bitsandbytes.hpp>
#include <qlr/io/calibration.hpp>
#include <qlr/io/checkpoint.hpp>
#include <qlr/io/decomposition_tensors.hpp>
#include <qlr/io/gguf.hpp>
#include <qlr/io/gguf_adapter.hpp>
#include <qlr/io/gguf_blocks.hpp>
#include <qlr/io/gguf_llama.hpp>
#include <qlr/io/gguf_writer.hpp>
#include <qlr/io/imatrix.hpp>
#include <qlr/io/join_safetensors.hpp>
#include <qlr/io/mapped_decomposition.hpp>
#include <qlr/io/npy.hpp>
#include <qlr/io/peft.hpp>
#include <qlr/io/peft_writer.hpp>
#include <qlr/io/safetensors.hpp>
#include <qlr/io/serialize.hpp>
#include <qlr/io/svdquant.hpp>
#include <qlr/matmul.hpp>
#include <qlr/version.hpp>
