// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

// Training on the CPU: layers whose low-rank part is learned, optimizers, and their state in files.

#include <qlr/train/any_layer.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/dense_layer.hpp>
#include <qlr/train/finite.hpp>
#include <qlr/train/frozen_storage.hpp>
#include <qlr/train/learning_rate.hpp>
#include <qlr/train/loqt_layer.hpp>
#include <qlr/train/loqt_schedule.hpp>
#include <qlr/train/loss.hpp>
#include <qlr/train/low_rank_layer.hpp>
#include <qlr/train/lr_qat_layer.hpp>
#include <qlr/train/lrq_layer.hpp>
#include <qlr/train/optimizer.hpp>
#include <qlr/train/parameter.hpp>
#include <qlr/train/reconstruct_output.hpp>
#include <qlr/train/state.hpp>
#include <qlr/train/storage.hpp>
