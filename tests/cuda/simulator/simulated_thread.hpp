// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <cuda/simulator/simulated_block.hpp>
#include <qlr/core/types.hpp>
#include <qlr/cuda/detail/warpgroup_thread.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace qlr::test {

/// kernel_thread on the host: a fiber that yields wherever a real thread could be overtaken.
class simulated_thread {
public:
  simulated_thread(simulated_block& block, int index, const simulation_options& options)
      : block_(block), index_(index), options_(options) {}

  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] int num_threads() const { return block_.num_threads; }
  [[nodiscard]] index_t block() const { return block_.index; }
  [[nodiscard]] index_t num_blocks() const { return block_.num_blocks; }

  template <class T>
  [[nodiscard]] T* shared(index_t offset) const {
    if (offset < 0 || offset > block_.shared_bytes || offset % static_cast<index_t>(alignof(T)) != 0)
      throw std::logic_error("shared memory: bad offset");
    return reinterpret_cast<T*>(block_.memory.get() + offset);
  }

  void sync() {
    meet(block_.all, [] {});
  }
  void sync_warp() {
    meet(warp().meeting, [] {});
  }

  template <class T>
  [[nodiscard]] T shuffle(T value, int lane) {
    static_assert(std::is_trivially_copyable_v<T>);
    struct operand {
      T in;
      int source;
      T out;
    } mine{value, lane, value};
    together(mine, [](auto& all) {
      for (operand* each : all) each->out = all[static_cast<std::size_t>(each->source & 31)]->in;
    });
    return mine.out;
  }
  template <class T>
  [[nodiscard]] T shuffle_xor(T value, int mask) {
    return shuffle(value, lane() ^ mask);
  }

  std::uint32_t add_atomic(std::uint32_t* address, std::uint32_t value) {
    const std::uint32_t before = *address;
    *address += value;
    step();
    return before;
  }
  void min_atomic(std::uint64_t* address, std::uint64_t value) {
    if (value < *address) *address = value;
    step();
  }
  std::uint32_t arrive(std::uint32_t* address, std::uint32_t value) { return add_atomic(address, value); }
  void publish(std::uint32_t* address, std::uint32_t value) {
    *address = value;
    step();
  }
  [[nodiscard]] std::uint32_t observe(const std::uint32_t* address) { return *address; }
  void pause() {
    is_spinning_ = true;
    fiber_->yield();
    is_spinning_ = false;
  }

  void copy_async(void* shared, const void* global, int bytes) {
    check_shared(shared, 16);
    if (reinterpret_cast<std::uintptr_t>(shared) % 16 != 0 || bytes < 0 || bytes > 16)
      throw std::logic_error("copy_async: bad target or size");
    if (bytes > 0 && reinterpret_cast<std::uintptr_t>(global) % 16 != 0)
      throw std::logic_error("copy_async: misaligned source");
    const copy task{shared, global, bytes};
    if (options_.copies == copy_time::early) task.run();
    block_.unfenced[piece_of(shared)] = 1;
    open_.push_back(task);
  }
  void commit_copies() {
    groups_.push_back(open_);
    open_.clear();
  }
  template <int Groups>
  void wait_copies() {
    while (groups_.size() > Groups) {
      for (const copy& task : groups_.front()) {
        if (options_.copies == copy_time::late) task.run();
        landed_.push_back(task.to);
      }
      groups_.pop_front();
    }
  }

  [[nodiscard]] std::uint32_t shared_address(const void* pointer) const {
    check_shared(pointer, 0);
    return first_shared_address +
           static_cast<std::uint32_t>(static_cast<const unsigned char*>(pointer) - block_.memory.get());
  }
  void fence_copies() {
    for (const void* to : landed_) block_.unfenced[piece_of(to)] = 0;
    landed_.clear();
  }
  void fence_products() { is_fenced_ = true; }
  template <class T, int N>
  void multiply_async(float (&sums)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b) {
    static_assert(N % 8 == 0 && N > 0 && N <= 256);
    if (!is_fenced_) throw std::logic_error("multiply_async: no fence_products since the last group");
    if (num_threads() % cuda::detail::warpgroup_size != 0)
      throw std::logic_error("multiply_async: the block is not of whole warpgroups");
    warp_product::lane_registers mine{sums, a};
    together(mine, [&](auto& all) {
      warp_product product{
          b, N, block_.memory.get(), [](std::uint16_t bits) { return to_float(T{bits}); }, {}};
      for (std::size_t i = 0; i < all.size(); ++i) product.lanes[i] = *all[i];
      check_agreement(product);
      run_product(product, copy_time::late);
      warp().products.open.push_back(product);
    });
  }
  void commit_products() {
    if (lane() == 0)
      warp().products.commit(); // lane 0 passes each product and each wait together with the others
    is_fenced_ = false;
  }
  template <int Groups>
  void wait_products() {
    meet(warp().meeting, [this] {
      warp().products.wait(Groups,
                           [this](const warp_product& product) { run_product(product, copy_time::early); });
    });
  }
  template <int Tiles, int N>
  void take_products(float (&)[Tiles][N]) {
    wait_products<0>();
  }

  void load_matrices(const void* row, std::uint32_t (&out)[4]) {
    check_shared(row, 16);
    if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
      throw std::logic_error("load_matrices: misaligned row");
    struct operand {
      const unsigned char* row;
      std::uint32_t* out;
      int lane;
    } mine{static_cast<const unsigned char*>(row), out, lane()};
    together(mine, [](auto& all) {
      for (operand* each : all) {
        for (std::size_t matrix = 0; matrix < 4; ++matrix) {
          const auto lane = static_cast<std::size_t>(each->lane);
          std::memcpy(each->out + matrix, all[8 * matrix + lane / 4]->row + 4 * (lane % 4), 4);
        }
      }
    });
  }

  template <class T>
  void multiply_add(float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    struct operand {
      float* sums;
      const std::uint32_t* a;
      const std::uint32_t* b;
    } mine{sums, a, b};
    together(mine, [](auto& all) {
      float left[16][16];
      float right[16][8];
      for (std::size_t lane = 0; lane < 32; ++lane) {
        const std::size_t g = lane / 4;
        const std::size_t c = 2 * (lane % 4);
        for (std::size_t i = 0; i < 2; ++i) {
          for (std::size_t half = 0; half < 2; ++half) {
            left[g + 8 * half][c + i] = element<T>(all[lane]->a[half], i);
            left[g + 8 * half][c + 8 + i] = element<T>(all[lane]->a[2 + half], i);
            right[c + 8 * half + i][g] = element<T>(all[lane]->b[half], i);
          }
        }
      }
      for (std::size_t lane = 0; lane < 32; ++lane) {
        for (std::size_t i = 0; i < 4; ++i) {
          const std::size_t row = lane / 4 + 8 * (i / 2);
          const std::size_t col = 2 * (lane % 4) + i % 2;
          float sum = 0;
          for (std::size_t k = 0; k < 16; ++k) sum += left[row][k] * right[k][col];
          all[lane]->sums[i] += sum;
        }
      }
    });
  }

  // What the simulated device needs.
  void attach(fiber& own) { fiber_ = &own; }
  [[nodiscard]] bool is_waiting() const {
    return waits_for_ != nullptr && waits_for_->generation == generation_;
  }
  [[nodiscard]] bool is_spinning() const { return is_spinning_; }

private:
  struct copy {
    void* to;
    const void* from;
    int bytes;
    void run() const {
      unsigned char data[16] = {};
      if (bytes > 0) std::memcpy(data, from, static_cast<std::size_t>(bytes));
      std::memcpy(to, data, sizeof data);
    }
  };

  template <class T>
  static float element(std::uint32_t pair, std::size_t i) {
    return to_float(T{static_cast<std::uint16_t>(pair >> (16 * i))});
  }

  [[nodiscard]] int lane() const { return index_ % cuda::detail::warp_size; }
  [[nodiscard]] simulated_block::warp_state& warp() {
    return block_.warps[static_cast<std::size_t>(index_ / cuda::detail::warp_size)];
  }

  void check_shared(const void* address, index_t bytes) const {
    const auto* begin = block_.memory.get();
    const auto* byte = static_cast<const unsigned char*>(address);
    if (byte < begin || byte + bytes > begin + block_.shared_bytes)
      throw std::logic_error("address is outside of shared memory");
  }

  [[nodiscard]] std::size_t piece_of(const void* shared) const {
    return static_cast<std::size_t>(static_cast<const unsigned char*>(shared) - block_.memory.get()) / 16;
  }

  /// Products take the other extreme than copies: a copy that happens at once meets products that still read.
  void run_product(const warp_product& product, copy_time when_copies_are) {
    for (std::uint32_t token = 0; token < product.tokens; ++token) {
      for (std::uint32_t col = 0; col < 16; col += 8) {
        const std::uint32_t address = described_address(product.descriptor, token, col);
        if (address < first_shared_address || address - first_shared_address + 16 > block_.shared_bytes)
          throw std::logic_error("multiply_async: B is outside of shared memory");
        if (block_.unfenced[(address - first_shared_address) / 16] != 0)
          throw std::logic_error("multiply_async: B is being copied, or was without fence_copies");
      }
    }
    if (options_.copies == when_copies_are) product.run();
  }

  void check_agreement(const warp_product& product) {
    std::vector<std::uint64_t>& group =
        block_.groups[static_cast<std::size_t>(index_ / cuda::detail::warpgroup_size)];
    const std::size_t i = warp().products.issued++;
    if (i == group.size()) group.push_back(product.descriptor);
    if (group[i] != product.descriptor)
      throw std::logic_error("multiply_async: warps of a warpgroup disagree on B");
  }

  /// Lets other threads go first.
  void step() { fiber_->yield(); }

  /// Waits until all have come; the last one runs `action` before anyone leaves.
  template <class Action>
  void meet(barrier& point, Action&& action) {
    if (++point.arrived == point.expected) {
      action();
      point.arrived = 0;
      ++point.generation;
      step();
      return;
    }
    waits_for_ = &point;
    generation_ = point.generation;
    while (is_waiting()) fiber_->yield();
    waits_for_ = nullptr;
  }

  /// Gathers the operands of all lanes and runs `action` on them once.
  template <class Operand, class Action>
  void together(Operand& mine, Action&& action) {
    simulated_block::warp_state& state = warp();
    state.operands[static_cast<std::size_t>(lane())] = &mine;
    meet(state.meeting, [&] {
      std::array<Operand*, cuda::detail::warp_size> all{};
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Operand*>(state.operands[i]);
      action(all);
    });
  }

  simulated_block& block_;
  int index_;
  const simulation_options& options_;
  fiber* fiber_ = nullptr;
  const barrier* waits_for_ = nullptr;
  std::uint64_t generation_ = 0;
  bool is_spinning_ = false;
  bool is_fenced_ = false;
  std::vector<copy> open_;
  std::deque<std::vector<copy>> groups_;
  std::vector<const void*> landed_;
};

static_assert(cuda::detail::warpgroup_thread<simulated_thread>);

} // namespace qlr::test
