// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/cuda/detail/matmul_launch.hpp>
#include <qlr/cuda/detail/matmul_plan.hpp>
#include <qlr/cuda/detail/matmul_variants.hpp>
#include <qlr/cuda/packed_weights.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace qlr::cuda {

/// What a product on a device is asked for besides its operands; all pointers are to device memory.
template <half_scalar T>
struct matmul_options {
  const float* bias = nullptr; ///< m numbers added to every row of Y, or null
  /// Adapters over the same Q; ranks and scales differ freely. Null: none.
  const adapter_table<T>* adapters = nullptr;
  /// For each token the index of its adapter; any other number, such as -1, for none.
  const std::int32_t* adapter_of_token = nullptr;
  std::string_view variant{}; ///< kernel to run; empty: chosen by shape and device
  index_t slices = 0;         ///< parts of the reduction of each tile of Y; 0: chosen by shape and device
};

/// Scratch memory of products on one stream; kept between calls, which leave its counters at zero.
///
/// @memory see fused_matmul::workspace_bytes
class matmul_workspace {
public:
  /// @throws qlr::error invalid_argument: bytes < 0;  out_of_memory, device_failure: the device refuses
  explicit matmul_workspace(index_t bytes, cudaStream_t stream = nullptr) : memory_(bytes, stream) {
    if (bytes == 0) return;
    detail::check(cudaMemsetAsync(memory_.data(), 0, static_cast<std::size_t>(bytes), stream),
                  "matmul_workspace: ", bytes, " bytes");
  }
  [[nodiscard]] index_t size_bytes() const { return memory_.bytes(); }
  [[nodiscard]] std::uint8_t* data() { return memory_.data(); }

private:
  device_buffer<std::uint8_t> memory_;
};

/// Y = X Q^T + s (X R^T) L^T + bias on a device, straight from packed codes.
///
/// Let u be the unit roundoff of T, 2^-11 for float16 and 2^-8 for bfloat16. Levels are rounded to T once, L,
/// R and R x once each, and with input scales X once; tiles of up to 64 tokens scale in fp32, those of
/// prefill round scale and product to T as well. Products are exact and all sums in fp32.
///
/// The variants prefill_wgmma_* exist in programs compiled for sm_90a, on devices of compute capability 9.0.
/// @tparam Launcher  where kernels run: detail::gpu_launcher
/// @tparam Bits  widths of codes, of 2, 3, 4 and 8, that kernels are compiled for, which takes long; none
/// named: all
template <class Launcher, int... Bits>
class fused_matmul {
  static_assert(((Bits == 2 || Bits == 3 || Bits == 4 || Bits == 8) && ...), "codes have 2, 3, 4 or 8 bits");

public:
  /// Whether there are kernels for codes of this many bits.
  [[nodiscard]] static constexpr bool has_kernels(int bits) {
    return sizeof...(Bits) == 0 || ((bits == Bits) || ...);
  }

  /// The name of the kernel that run() launches.
  ///
  /// @throws qlr::error as run()
  template <half_scalar T, class Y>
  [[nodiscard]] static std::string_view chosen_variant(const packed_weights<T>& w, device_view<const T> x,
                                                       device_view<Y> y, const matmul_options<T>& options) {
    return checked_variant(w, x, y, options).name;
  }

  /// Whether run() would accept these operands; if not, and `reason` is not null, why.
  template <half_scalar T, class Y>
  [[nodiscard]] static bool can_implement(const packed_weights<T>& w, device_view<const T> x,
                                          device_view<Y> y, const matmul_options<T>& options,
                                          std::string* reason = nullptr) {
    const refusal problem = find_problem(w, x, y, options);
    if (reason != nullptr) *reason = problem.message;
    return problem.message.empty();
  }

  /// Bytes that products of up to `tokens` tokens need on the current device, whatever X's strides.
  ///
  /// Where there are input scales, or groups whose size is no multiple of 16, prefill_wgmma_* keep a copy of
  /// X.
  /// @throws qlr::error invalid_argument: an unknown variant;  unsupported: the device is older than sm_80
  template <half_scalar T>
  [[nodiscard]] static index_t workspace_bytes(const packed_weights<T>& w, index_t tokens,
                                               const matmul_options<T>& options = {}) {
    const device_properties device = current_device();
    require(is_supported(device), status_code::unsupported, describe_support(device));
    index_t most = 0;
    for (const detail::matmul_variant& variant : detail::matmul_variants) {
      if (!options.variant.empty() && variant.name != options.variant) continue;
      if (variant.group_tiles > 0 && !has_warpgroups<T>(w.bits(), device)) continue;
      for (index_t count = tokens; count > 0; count /= 2) // fewer tokens may be cut into more slices
        most = std::max(most, plan_of(w, options, variant, count, device).workspace.bytes);
    }
    return most;
  }

  /// Enqueues Y = X diag(1 / input_scales) Q^T + s (X R^T) L^T + bias.
  ///
  /// @param[in]  x  X (t,n), device memory, any strides; fastest where it is aligned to 16 bytes and its rows
  /// are contiguous and a multiple of 8 elements apart
  /// @param[out] y  Y (t,m), T or float, any strides; must not overlap X
  /// @param      workspace  zero before its first use; used by one call at a time
  /// @throws qlr::error shape_mismatch: X or Y does not fit Q, or the adapters were packed for another shape
  /// @throws qlr::error invalid_argument: a null or misaligned pointer, memory of the host or of another
  /// device, an unknown variant, or a workspace that is too small;  unsupported: the device is older than
  /// sm_80
  /// @throws qlr::error device_failure: the launch was refused. Nothing is written in any of these cases
  /// @sync only enqueues; all operands must outlive the work; fit for capture in a graph
  /// @determinism the same bits on the same device, in any order of blocks
  template <half_scalar T, class Y>
  static void run(const packed_weights<T>& w, device_view<const T> x, device_view<Y> y,
                  const matmul_options<T>& options, matmul_workspace& workspace,
                  cudaStream_t stream = nullptr) {
    const detail::matmul_variant& variant = checked_variant(w, x, y, options);
    if (x.rows() == 0) return;
    const device_properties device = current_device();
    const index_t most = detail::matmul_counters::most_token_tiles * index_t{variant.tokens};
    const index_t needed = plan_of(w, options, variant, x.rows(), device).workspace.bytes;
    require(workspace.size_bytes() >= needed, status_code::invalid_argument, "workspace has ",
            workspace.size_bytes(), " bytes, ", x.rows(), " tokens need ", needed, " with ", variant.name);
    for (index_t first = 0; first < x.rows(); first += most) {
      const index_t tokens = std::min(most, x.rows() - first);
      const detail::matmul_plan plan = plan_of(w, options, variant, tokens, device);
      detail::matmul_arguments arguments = arguments_of(
          w, x.middle_rows(first, tokens), y.middle_rows(first, tokens), options, plan, workspace);
      if (arguments.adapter_of_token != nullptr) arguments.adapter_of_token += first;
      if (variant.group_tiles > 0) {
        arguments.schedule.gathers = needs_gather(x); // for projections
        if (detail::needs_arranged_x(arguments.weights)) {
          arguments.arranged = reinterpret_cast<std::uint16_t*>(workspace.data() + plan.workspace.arranged);
          arrange_x<T>(arguments, device, stream);
        }
      }
      launch<T>(w.bits(), variant, arguments, plan.launch, stream);
    }
  }

private:
  struct refusal {
    status_code code = status_code::invalid_argument;
    std::string message; ///< empty: none
  };

  [[nodiscard]] static bool is_supported(const device_properties& device) {
    return device.compute_capability >= 80;
  }
  [[nodiscard]] static std::string describe_support(const device_properties& device) {
    return sentence("the device has compute capability ", device.compute_capability / 10, '.',
                    device.compute_capability % 10, ", products need 8.0 and above");
  }

  /// Why memory cannot be an operand; empty when it can.
  template <class Pointer>
  [[nodiscard]] static std::string find_memory_problem(std::string_view name, Pointer* pointer,
                                                       std::size_t alignment, int device) {
    if (pointer == nullptr) return sentence(name, " is a null pointer");
    if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0)
      return sentence(name, " is not aligned to ", alignment, " bytes");
    cudaPointerAttributes attributes{};
    detail::check(cudaPointerGetAttributes(&attributes, pointer), "cudaPointerGetAttributes");
    if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged)
      return sentence(name, " is not device memory");
    if (attributes.type == cudaMemoryTypeDevice && attributes.device != device)
      return sentence(name, " is on device ", attributes.device, ", the current device is ", device);
    return {};
  }

  template <half_scalar T, class Y>
  [[nodiscard]] static refusal find_problem(const packed_weights<T>& w, device_view<const T> x,
                                            device_view<Y> y, const matmul_options<T>& options) {
    static_assert(std::same_as<Y, T> || std::same_as<Y, float>, "Y has the type of X or is float");
    const device_properties device = current_device();
    if (!is_supported(device)) return {status_code::unsupported, describe_support(device)};
    if (!has_kernels(w.bits()))
      return {status_code::unsupported, sentence("Q has codes of ", w.bits(),
                                                 " bits, kernels were compiled for", sentence(' ', Bits)...)};
    if (x.cols() != w.cols())
      return {status_code::shape_mismatch,
              sentence("X is ", x.rows(), " x ", x.cols(), ", Q is ", w.rows(), " x ", w.cols())};
    if (y.rows() != x.rows() || y.cols() != w.rows())
      return {status_code::shape_mismatch,
              sentence("Y is ", y.rows(), " x ", y.cols(), ", it must be ", x.rows(), " x ", w.rows())};
    if (w.device() != device.index)
      return {status_code::invalid_argument,
              sentence("Q is on device ", w.device(), ", the current device is ", device.index)};
    if (refusal problem = find_adapter_problem(w, options, device); !problem.message.empty()) return problem;
    if (options.slices < 0)
      return {status_code::invalid_argument,
              sentence("slices is ", options.slices, ", allowed are 1 and above, 0 (chosen)")};
    if (x.rows() == 0) return {};
    std::string message = find_memory_problem("X", x.data(), sizeof(T), device.index);
    if (message.empty()) message = find_memory_problem("Y", y.data(), sizeof(Y), device.index);
    if (message.empty() && options.bias != nullptr)
      message = find_memory_problem("bias", options.bias, sizeof(float), device.index);
    if (message.empty() && has_adapters(options))
      message = find_memory_problem("adapter_of_token", options.adapter_of_token, sizeof(std::int32_t),
                                    device.index);
    return {status_code::invalid_argument, message};
  }

  template <half_scalar T>
  [[nodiscard]] static bool has_adapters(const matmul_options<T>& options) {
    return options.adapters != nullptr && options.adapters->size() > 0;
  }

  template <half_scalar T>
  [[nodiscard]] static refusal find_adapter_problem(const packed_weights<T>& w,
                                                    const matmul_options<T>& options,
                                                    const device_properties& device) {
    if (!has_adapters(options)) return {};
    const adapter_table<T>& adapters = *options.adapters;
    if (adapters.rows() != w.rows() || adapters.cols() != w.cols())
      return {status_code::shape_mismatch, sentence("the adapters are ", adapters.rows(), " x ",
                                                    adapters.cols(), ", Q is ", w.rows(), " x ", w.cols())};
    if (adapters.device() != device.index)
      return {status_code::invalid_argument, sentence("the adapters are on device ", adapters.device(),
                                                      ", the current device is ", device.index)};
    return {};
  }

  template <half_scalar T, class Y>
  [[nodiscard]] static const detail::matmul_variant& checked_variant(const packed_weights<T>& w,
                                                                     device_view<const T> x, device_view<Y> y,
                                                                     const matmul_options<T>& options) {
    const refusal problem = find_problem(w, x, y, options);
    require(problem.message.empty(), problem.code, problem.message);
    detail::variant_limits limits;
    const device_properties device = current_device();
    limits.needs_gather = needs_gather(x) || !w.view().columns.is_identity();
    limits.has_real_zeros = w.zeros() == zero_point::real;
    limits.compute_capability = device.compute_capability;
    limits.multiprocessors = device.multiprocessors;
    limits.has_warpgroups = has_warpgroups<T>(w.bits(), device);
    limits.arranges_x = detail::needs_arranged_x(w.view());
    limits.rows = w.rows();
    return options.variant.empty() ? detail::choose_variant(limits, x.rows())
                                   : detail::find_variant(limits, options.variant);
  }

  template <half_scalar T>
  [[nodiscard]] static index_t num_groups(const packed_weights<T>& w, const matmul_options<T>& options) {
    return static_cast<index_t>(w.low_rank().groups().size()) +
           (has_adapters(options) ? options.adapters->num_groups() : 0);
  }

  /// Whether X cannot be copied 16 bytes at a time.
  template <half_scalar T>
  [[nodiscard]] static bool needs_gather(device_view<const T> x) {
    return reinterpret_cast<std::uintptr_t>(x.data()) % 16 != 0 || x.row_stride() % 8 != 0 ||
           !x.has_contiguous_rows();
  }

  /// Whether device and program have kernels of warpgroups.
  template <half_scalar T>
  [[nodiscard]] static bool has_warpgroups(int bits, const device_properties& device) {
    if (device.compute_capability != 90) return false;
    return with_bits(bits, [&]<int Width>() {
      if constexpr (has_kernels(Width)) {
        return detail::has_group_kernels<Launcher, Width, T>();
      } else {
        return false;
      }
    });
  }

  template <class Body>
  static auto with_bits(int bits, Body&& body) {
    switch (bits) {
    case 2:
      return body.template operator()<2>();
    case 3:
      return body.template operator()<3>();
    case 4:
      return body.template operator()<4>();
    default:
      return body.template operator()<8>();
    }
  }

  template <half_scalar T>
  [[nodiscard]] static detail::matmul_plan plan_of(const packed_weights<T>& w,
                                                   const matmul_options<T>& options,
                                                   const detail::matmul_variant& variant, index_t tokens,
                                                   const device_properties& device) {
    const index_t most = detail::matmul_counters::most_token_tiles * index_t{variant.tokens};
    const detail::tile_constants tile = with_bits(w.bits(), [&]<int Width>() {
      return detail::with_shape(variant, [&]<class Shape>() { return detail::constants_of<Width, Shape>(); });
    });
    return detail::make_plan(w.view(), tile, variant.gathers, std::min(tokens, most), num_groups(w, options),
                             options.slices, device, detail::most_stages);
  }

  template <half_scalar T, class Y>
  [[nodiscard]] static detail::matmul_arguments arguments_of(const packed_weights<T>& w,
                                                             device_view<const T> x, device_view<Y> y,
                                                             const matmul_options<T>& options,
                                                             const detail::matmul_plan& plan,
                                                             matmul_workspace& workspace) {
    detail::matmul_arguments out;
    out.weights = w.view();
    out.schedule = plan.schedule;
    out.x = reinterpret_cast<const std::uint16_t*>(x.data());
    out.x_row_stride = x.row_stride();
    out.x_col_stride = x.col_stride();
    out.y = y.data();
    out.y_row_stride = y.row_stride();
    out.y_col_stride = y.col_stride();
    out.y_is_float = std::same_as<Y, float>;
    out.tokens = x.rows();
    out.bias = options.bias;
    out.base_groups = w.groups();
    out.num_base_groups = static_cast<std::int32_t>(w.low_rank().groups().size());
    if (has_adapters(options)) {
      out.adapter_groups = options.adapters->groups();
      out.num_adapter_groups = static_cast<std::int32_t>(options.adapters->num_groups());
      out.adapter_of_token = options.adapter_of_token;
    }
    std::uint8_t* memory = workspace.data();
    out.counters = reinterpret_cast<detail::matmul_counters*>(memory);
    out.right_partials = reinterpret_cast<float*>(memory + plan.workspace.right_partials);
    out.tile_partials = reinterpret_cast<float*>(memory + plan.workspace.tile_partials);
    out.projected = reinterpret_cast<std::uint16_t*>(memory + plan.workspace.projected);
    out.projected_scales = reinterpret_cast<float*>(memory + plan.workspace.projected_scales);
    return out;
  }

  template <half_scalar T>
  static void launch(int bits, const detail::matmul_variant& variant,
                     const detail::matmul_arguments& arguments, const detail::launch_shape& shape,
                     cudaStream_t stream) {
    with_bits(bits, [&]<int Width>() {
      if constexpr (has_kernels(Width))
        detail::launch_product<Launcher, Width, T>(variant, arguments, shape, stream);
    });
  }

  template <half_scalar T>
  static void arrange_x(const detail::matmul_arguments& arguments, const device_properties& device,
                        cudaStream_t stream) {
    using kernel = detail::arrange_x_kernel<T>;
    const index_t chunks = arguments.tokens * arguments.weights.columns.num_blocks * detail::block_cols / 8;
    const index_t most_blocks = index_t{kernel::least_blocks} * device.multiprocessors;
    Launcher::launch(
        kernel{arguments},
        {std::min(detail::divide_up(chunks, kernel::most_threads), most_blocks), kernel::most_threads, 0},
        stream);
  }
};

} // namespace qlr::cuda
