// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <qlr/core/status.hpp>
#include <qlr/train/concepts.hpp>
#include <qlr/train/state.hpp>

#include <concepts>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace qlr::train {

/// An archive of save_state or load_state.
template <class Archive>
concept state_archive = std::same_as<Archive, detail::state_saver> ||
    std::same_as<Archive, detail::state_checker> || std::same_as<Archive, detail::state_loader>;

namespace detail {

template <std::floating_point T>
struct layer_interface {
  layer_interface() = default;
  layer_interface(const layer_interface&) = delete;
  layer_interface& operator=(const layer_interface&) = delete;
  virtual ~layer_interface() = default;

  [[nodiscard]] virtual const void* type() const = 0;
  [[nodiscard]] virtual index_t rows() const = 0;
  [[nodiscard]] virtual index_t cols() const = 0;
  virtual void forward(matrix_view<const T> x, matrix_view<T> y, const executor& run) const = 0;
  virtual void backward(matrix_view<const T> x, matrix_view<const T> grad_y, matrix_view<T> grad_x,
                        const executor& run) = 0;
  [[nodiscard]] virtual std::vector<parameter_view<T>> parameters(const std::string& prefix) = 0;
  [[nodiscard]] virtual index_t stored_bytes() const = 0;
  virtual void visit_state(state_saver& archive, const std::string& prefix) = 0;
  virtual void visit_state(state_checker& archive, const std::string& prefix) = 0;
  virtual void visit_state(state_loader& archive, const std::string& prefix) = 0;
};

/// Its address tells types apart without run-time type information.
template <class Layer>
inline char layer_type = 0; // not const: equal constants may be folded into one

template <trainable_layer Layer>
struct held_layer final : layer_interface<typename Layer::compute_type> {
  using T = typename Layer::compute_type;

  explicit held_layer(Layer&& held) : layer(std::move(held)) {}

  [[nodiscard]] const void* type() const override { return &layer_type<Layer>; }
  [[nodiscard]] index_t rows() const override { return layer.rows(); }
  [[nodiscard]] index_t cols() const override { return layer.cols(); }
  void forward(matrix_view<const T> x, matrix_view<T> y, const executor& run) const override {
    layer.forward(x, y, run);
  }
  void backward(matrix_view<const T> x, matrix_view<const T> grad_y, matrix_view<T> grad_x,
                const executor& run) override {
    layer.backward(x, grad_y, grad_x, run);
  }
  [[nodiscard]] std::vector<parameter_view<T>> parameters(const std::string& prefix) override {
    return layer.parameters(prefix);
  }
  [[nodiscard]] index_t stored_bytes() const override { return layer.stored_bytes(); }
  void visit_state(state_saver& archive, const std::string& prefix) override {
    layer.visit_state(archive, prefix);
  }
  void visit_state(state_checker& archive, const std::string& prefix) override {
    layer.visit_state(archive, prefix);
  }
  void visit_state(state_loader& archive, const std::string& prefix) override {
    layer.visit_state(archive, prefix);
  }

  Layer layer;
};

} // namespace detail

/// One layer of any type that computes with T, so that a model may hold layers of several types; it is a
/// trainable_layer itself.
///
/// An empty one, and one that was moved from, may only be asked has_value() and target(), assigned and
/// destroyed; the rest throws.
/// @tparam T  what is computed with: float or double
template <std::floating_point T>
class any_layer {
public:
  using compute_type = T;

  any_layer() = default;
  /// Takes the layer over.
  template <trainable_layer Layer>
    requires(!std::same_as<Layer, any_layer> && std::same_as<typename Layer::compute_type, T>)
  any_layer(Layer layer) // NOLINT(google-explicit-constructor)
      : held_(std::make_unique<detail::held_layer<Layer>>(std::move(layer))) {}

  [[nodiscard]] bool has_value() const { return held_ != nullptr; }
  /// The layer, or null where it has another type.
  template <trainable_layer Layer>
    requires std::same_as<typename Layer::compute_type, T>
  [[nodiscard]] Layer* target() {
    if (held_ == nullptr || held_->type() != &detail::layer_type<Layer>) return nullptr;
    return &static_cast<detail::held_layer<Layer>&>(*held_).layer;
  }
  /// @copydoc target
  template <trainable_layer Layer>
    requires std::same_as<typename Layer::compute_type, T>
  [[nodiscard]] const Layer* target() const {
    if (held_ == nullptr || held_->type() != &detail::layer_type<Layer>) return nullptr;
    return &static_cast<const detail::held_layer<Layer>&>(*held_).layer;
  }

  [[nodiscard]] index_t rows() const { return held().rows(); }
  [[nodiscard]] index_t cols() const { return held().cols(); }
  /// See trainable_layer.
  ///
  /// @throws qlr::error as the layer;  invalid_argument: there is none
  void forward(matrix_view<const T> x, matrix_view<T> y, const executor& run = {}) const {
    held().forward(x, y, run);
  }
  /// @copydoc forward
  void backward(matrix_view<const T> x, matrix_view<const T> grad_y, matrix_view<T> grad_x,
                const executor& run = {}) {
    held().backward(x, grad_y, grad_x, run);
  }
  [[nodiscard]] std::vector<parameter_view<T>> parameters(const std::string& prefix = {}) {
    return held().parameters(prefix);
  }
  [[nodiscard]] index_t stored_bytes() const { return held().stored_bytes(); }
  /// See state.hpp.
  template <state_archive Archive>
  void visit_state(Archive& archive, const std::string& prefix) {
    held().visit_state(archive, prefix);
  }

private:
  [[nodiscard]] detail::layer_interface<T>& held() const {
    require(has_value(), status_code::invalid_argument, "any_layer is empty, it must hold a layer");
    return *held_;
  }

  std::unique_ptr<detail::layer_interface<T>> held_;
};

static_assert(trainable_layer<any_layer<float>> && trainable_layer<any_layer<double>>);

} // namespace qlr::train
