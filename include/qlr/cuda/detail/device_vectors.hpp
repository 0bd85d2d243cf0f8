// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/device_buffer.hpp>

#include <cuda_runtime_api.h>

#include <list>
#include <span>
#include <vector>

namespace qlr::cuda::detail {

/// Device copies of a few host vectors, such as the weights of a metric; found by their contents, which are
/// compared in less time than a copy takes to start.
class device_vectors {
public:
  /// The device copy of host; null for an empty one. Valid while this object lives.
  [[nodiscard]] const float* copy_of(const std::vector<float>& host, cudaStream_t stream) {
    if (host.empty()) return nullptr;
    for (const entry& known : entries_) {
      if (known.host == host) return known.device.data();
    }
    entries_.push_back({host, to_device(std::span<const float>(host), stream)});
    return entries_.back().device.data();
  }

private:
  struct entry {
    std::vector<float> host;
    device_buffer<float> device;
  };
  std::list<entry> entries_;
};

} // namespace qlr::cuda::detail
