// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <compress_checkpoint/page_layers.hpp>

#include <string>

/// One value of each layer along the depth of the network.
///
/// @param value    which one
/// @param label    what it is, with its unit
[[nodiscard]] std::string layer_chart(const page_layers& all, double page_layer::*value, const char* label);

/// The singular values of each layer in a drawing for each kind; a sentence where there are none.
[[nodiscard]] std::string decay_charts(const page_layers& all);
