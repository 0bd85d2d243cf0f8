// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#include <finetune_story/training.hpp>

#include <qlr/train/finite.hpp>
#include <qlr/train/loqt_layer.hpp>
#include <qlr/train/state.hpp>

#include <algorithm>
#include <numeric>
#include <type_traits>

namespace {

using qlr::index_t;

qlr::train::learning_rate_schedule make_rate(const run_key& key, const training_options& options) {
  const training_method& method = *key.method;
  const double adapted = key.bits == 2 ? method.rate_2bit : method.rate;
  const double rate = options.trained == trained_parts::everything ? method.scratch_rate : adapted;
  return {.highest = rate * options.learning_rate_factor,
          .num_steps = options.num_steps,
          .warmup_steps = std::min<index_t>(5, options.num_steps),
          .decay = qlr::train::rate_decay::cosine,
          .final_fraction = 0.1};
}

} // namespace

double training_curve::final_training_loss() const {
  const std::size_t count = std::max<std::size_t>(1, training.size() / 10);
  if (training.size() < count) return 0;
  return std::accumulate(training.end() - static_cast<std::ptrdiff_t>(count), training.end(), 0.0) /
         static_cast<double>(count);
}

template <class Body>
void training::for_each_loqt_layer(Body&& body) {
  const auto visit = [&]<class Storage>(std::type_identity<Storage>, qlr::train::any_layer<float>& layer) {
    if (auto* found = layer.template target<qlr::train::loqt_layer<Storage>>()) body(*found);
  };
  for (index_t block = 0; block < model_.num_blocks(); ++block) {
    for (int which = 0; which < num_linear_layers; ++which) {
      auto& layer = model_.layer(block, static_cast<linear_layer>(which));
      visit(std::type_identity<float>(), layer);
      visit(std::type_identity<qlr::bfloat16>(), layer);
    }
  }
}

training::training(const run_key& key, const training_options& options, const training_data& data)
    : key_(key), options_(options), sequences_(data.sequences),
      model_(data.weights, make_layer_factory(key, options.layers, data.covariances), options.trained),
      parameters_(model_.parameters()), optimizer_(parameters_, {.seed = key.seed}),
      rate_(make_rate(key, options)) {
  validate(rate_);
  for (index_t block = 0; block < model_.num_blocks(); ++block) {
    for (int which = 0; which < num_linear_layers; ++which)
      curve_.weight_bytes += model_.layer(block, static_cast<linear_layer>(which)).stored_bytes();
  }
  for (const auto& parameter : parameters_)
    curve_.gradient_bytes += parameter.size() * static_cast<index_t>(sizeof(float));
  curve_.optimizer_bytes = optimizer_.state_bytes();
  for_each_loqt_layer([this](auto& layer) { curve_.refresh_bytes += layer.refresh_bytes(); });
}

training::batch_tokens training::gather(const std::vector<std::vector<token_t>>& from,
                                        const std::vector<index_t>& indices) {
  batch_tokens result;
  for (const index_t index : indices) {
    const std::vector<token_t>& text = from[static_cast<std::size_t>(index)];
    result.inputs.insert(result.inputs.end(), text.begin(), text.end() - 1);
    result.targets.insert(result.targets.end(), text.begin() + 1, text.end());
  }
  return result;
}

batch_shape training::shape_of(const batch_tokens& tokens) const {
  const auto length = static_cast<index_t>(sequences_.training.front().size()) - 1;
  return {static_cast<index_t>(tokens.inputs.size()) / length, length};
}

double training::loss_and_gradients(const batch_tokens& tokens) {
  qlr::train::zero_gradients(parameters_);
  const double loss = model_.forward({shape_of(tokens), tokens.inputs, tokens.targets});
  model_.backward();
  return loss;
}

void training::refresh(const batch_tokens& tokens) {
  for_each_loqt_layer([](auto& layer) {
    if (!layer.is_refreshing()) layer.start_refresh(); // a new layer is
  });
  const double loss = loss_and_gradients(tokens);
  qlr::train::require_finite_step(step_, loss, parameters_);
  for_each_loqt_layer([](auto& layer) { layer.finish_refresh(); });
}

void training::evaluate() {
  const auto count = static_cast<index_t>(sequences_.held_out.size());
  double sum = 0;
  for (index_t first = 0; first < count; first += options_.batch_sequences) {
    std::vector<index_t> indices(static_cast<std::size_t>(std::min(options_.batch_sequences, count - first)));
    std::iota(indices.begin(), indices.end(), first);
    const batch_tokens tokens = gather(sequences_.held_out, indices);
    sum += model_.evaluate({shape_of(tokens), tokens.inputs, tokens.targets}) *
           static_cast<double>(indices.size());
  }
  const double loss = sum / static_cast<double>(count);
  qlr::train::require_finite_step(step_, loss, parameters_);
  curve_.evaluated_at.push_back(step_);
  curve_.held_out.push_back(loss);
}

void training::step() {
  if (step_ == 0) evaluate();
  const auto num_sequences = static_cast<index_t>(sequences_.training.size());
  const batch_tokens tokens =
      gather(sequences_.training, choose_batch(num_sequences, options_.batch_sequences, key_.seed, step_));
  if (key_.method->kind == method_kind::loqt && options_.refreshes.is_refresh_step(step_)) refresh(tokens);
  const double loss = loss_and_gradients(tokens);
  qlr::train::require_finite_step(step_, loss, parameters_);
  constexpr double largest_gradient = 1;
  qlr::train::clip_gradients(parameters_, largest_gradient);
  optimizer_.step(parameters_, rate_.at(step_));
  curve_.training.push_back(loss);
  ++step_;
  if (is_done() || step_ % options_.evaluation_interval == 0) evaluate();
}

template <class Archive>
void training::visit_state(Archive& archive) {
  model_.visit_state(archive, "model.");
  optimizer_.visit_state(archive, "optimizer.");
  archive.number("step", step_);
  archive.series("training_loss", curve_.training);
  archive.series("evaluated_at", curve_.evaluated_at);
  archive.series("held_out_loss", curve_.held_out);
}

void training::save(const std::string& path, const std::string& label) {
  qlr::train::save_state(path, [this](auto& archive) { visit_state(archive); },
                         {{"experiment", label}, {"run", key_.description()}});
}

void training::load(const std::string& path, const std::string& label) {
  const auto check = [&](const std::map<std::string, std::string>& metadata) {
    const auto found = metadata.find("experiment");
    const auto run = metadata.find("run");
    qlr::require(found != metadata.end() && found->second == label && run != metadata.end() &&
                     run->second == key_.description(),
                 qlr::status_code::invalid_argument, "state '", path,
                 "' is of another experiment; run with its options or into another folder");
  };
  qlr::train::load_state(
      path, [this](auto& archive) { visit_state(archive); }, check);
  check_loaded(path);
}

void training::check_loaded(const std::string& path) const {
  const auto num_losses = static_cast<index_t>(curve_.training.size());
  const bool is_consistent = step_ >= 1 && step_ <= options_.num_steps && num_losses == step_ &&
                             optimizer_.num_steps() == step_ && !curve_.held_out.empty() &&
                             curve_.held_out.size() == curve_.evaluated_at.size();
  qlr::require(is_consistent, qlr::status_code::malformed_file, "state '", path, "' is of step ", step_,
               " of ", options_.num_steps, " and holds ", num_losses, " losses");
}
