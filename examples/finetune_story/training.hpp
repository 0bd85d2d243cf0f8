// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

#include <finetune_story/methods.hpp>
#include <finetune_story/texts.hpp>
#include <finetune_story/transformer.hpp>

#include <qlr/train/learning_rate.hpp>
#include <qlr/train/loqt_schedule.hpp>
#include <qlr/train/optimizer.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// What all runs have in common.
struct training_options {
  qlr::index_t num_steps = 100;
  qlr::index_t batch_sequences = 8;
  qlr::index_t evaluation_interval = 10; ///< steps
  double learning_rate_factor = 1;       ///< times that of the method
  layer_options layers{};
  trained_parts trained = trained_parts::layers;
  qlr::train::loqt_schedule refreshes{.interval = 20, .growth = 1.2};
};

/// What all runs read.
struct training_data {
  const model_weights& weights;
  const texts& sequences;
  const layer_covariances& covariances;
};

/// Losses along a run, and what it takes.
struct training_curve {
  std::vector<double> training;           ///< loss of every step's batch
  std::vector<qlr::index_t> evaluated_at; ///< steps before each evaluation
  std::vector<double> held_out;           ///< loss of the held-out texts then
  qlr::index_t weight_bytes = 0;          ///< of all linear layers
  qlr::index_t gradient_bytes = 0;        ///< of all that learns
  qlr::index_t optimizer_bytes = 0;       ///< likewise
  qlr::index_t refresh_bytes = 0;         ///< what a LoQT refresh takes besides

  /// The mean loss of the last tenth of the steps.
  [[nodiscard]] double final_training_loss() const;
};

/// One model that learns; it may be saved between any two steps and goes on with the same bits.
class training {
public:
  /// @throws qlr::error as the layers
  training(const run_key& key, const training_options& options, const training_data& data);
  training(const training&) = delete; // parameters refer to the model
  training& operator=(const training&) = delete;

  [[nodiscard]] qlr::index_t num_steps_done() const { return step_; }
  [[nodiscard]] bool is_done() const { return step_ == options_.num_steps; }
  [[nodiscard]] const training_curve& curve() const { return curve_; }
  [[nodiscard]] transformer<float>& model() { return model_; }

  /// One batch, one step of the optimizer, and an evaluation where one is due.
  ///
  /// @throws qlr::error non_finite: loss, gradient or parameter; names step and parameter
  void step();

  /// @param label  of the whole experiment: a state of another one is refused
  /// @throws qlr::error io_failure
  void save(const std::string& path, const std::string& label);
  /// @throws qlr::error io_failure;  invalid_argument: a state of another experiment;  malformed_file: no
  /// state of this run
  void load(const std::string& path, const std::string& label);

private:
  /// Texts of some indices, one after the other.
  struct batch_tokens {
    std::vector<token_t> inputs;
    std::vector<token_t> targets;
  };
  [[nodiscard]] static batch_tokens gather(const std::vector<std::vector<token_t>>& from,
                                           const std::vector<qlr::index_t>& indices);
  [[nodiscard]] double loss_and_gradients(const batch_tokens& tokens);
  void refresh(const batch_tokens& tokens);
  void evaluate();
  void check_loaded(const std::string& path) const;
  [[nodiscard]] batch_shape shape_of(const batch_tokens& tokens) const;
  template <class Body>
  void for_each_loqt_layer(Body&& body);
  template <class Archive>
  void visit_state(Archive& archive);

  run_key key_;
  training_options options_;
  const texts& sequences_;
  transformer<float> model_;
  std::vector<qlr::train::parameter_view<float>> parameters_;
  qlr::train::adamw<float> optimizer_;
  qlr::train::learning_rate_schedule rate_;
  qlr::index_t step_ = 0;
  training_curve curve_;
};
