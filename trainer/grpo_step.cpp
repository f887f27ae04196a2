#include "trainer/grpo_step.h"

#include <cmath>

#include "core/error.h"

namespace ferro {
namespace {

using States = std::vector<std::vector<AnswerState>>;

AnswerState& state_of(const AnswerPlace& place, States& states) {
  return states[place.group][place.answer];
}

/// One member of all answers of a micro-batch, one after the other; empty where an answer that has tokens
/// lacks it.
std::vector<float> joined(const MicroBatch& micro, States& states, std::vector<float> AnswerState::*member) {
  std::vector<float> all;
  for (std::size_t i = 0; i < micro.answers.size(); ++i) {
    const std::vector<float>& own = state_of(micro.answers[i], states).*member;
    const auto length = static_cast<std::size_t>(micro.offsets[i + 1] - micro.offsets[i]);
    if (own.size() < length) return {};
    all.insert(all.end(), own.begin(), own.begin() + static_cast<std::ptrdiff_t>(length));
  }
  return all;
}

void store(const MicroBatch& micro, std::span<const float> values, States& states,
           std::vector<float> AnswerState::*member) {
  for (std::size_t i = 0; i < micro.answers.size(); ++i)
    state_of(micro.answers[i], states).*
        member = {values.begin() + micro.offsets[i], values.begin() + micro.offsets[i + 1]};
}

void compare_with_sampler(std::span<const float> logps, std::span<const float> sampled, MetricSums& sums) {
  for (std::size_t t = 0; t < sampled.size(); ++t) {
    const double difference = std::abs(static_cast<double>(logps[t]) - static_cast<double>(sampled[t]));
    add_to_mean(sums, "sampling/sampling_logp_difference/mean", difference);
    keep_largest(sums, "sampling/sampling_logp_difference/max", difference);
  }
}

}  // namespace

GrpoStep::GrpoStep(const Model& policy, const Model* reference, const PolicyLossConfig& loss,
                   LayerWalk::Recompute recompute, std::vector<std::int32_t> banned_ids, double temperature)
    : loss_(loss), walk_(policy, recompute), head_(policy.weights.head, banned_ids, temperature) {
  FERRO_CHECK(reference != nullptr || loss.beta == 0, "beta {} needs a reference", loss.beta);
  if (reference == nullptr) return;
  reference_walk_ = std::make_unique<LayerWalk>(*reference, LayerWalk::Recompute::kFull);
  reference_head_ =
      std::make_unique<ChunkedHead>(reference->weights.head, std::move(banned_ids), temperature);
}

void GrpoStep::add_reference(const MicroBatch& micro, States& states) {
  if (!reference_walk_ || !joined(micro, states, &AnswerState::ref_logps).empty()) return;
  const at::Tensor hidden_TD = reference_walk_->forward(micro.batch, false);
  store(micro, reference_head_->forward(hidden_TD, micro.batch.targets).logprobs, states,
        &AnswerState::ref_logps);
}

GrpoStep::Outcome GrpoStep::run(std::span<const MicroBatch> micro_batches, States& states,
                                const LossNormaliser& normaliser, bool keep_logps, const Clock& clock) {
  Outcome outcome;
  for (const MicroBatch& micro : micro_batches) {
    outcome.tokens += static_cast<std::int64_t>(micro.batch.tokens.size());
    if (micro.batch.targets.empty()) continue;
    const Stopwatch reference_watch(clock);
    add_reference(micro, states);
    outcome.reference_seconds += reference_watch.seconds();

    const at::Tensor hidden_TD = walk_.forward(micro.batch, true);
    const ChunkedHead::Forward values = head_.forward(hidden_TD, micro.batch.targets);
    const std::vector<float> old_logps = joined(micro, states, &AnswerState::old_logps);
    const std::vector<float> ref_logps = joined(micro, states, &AnswerState::ref_logps);
    std::vector<float> advantages;
    for (const AnswerPlace& place : micro.answers)
      advantages.push_back(static_cast<float>(state_of(place, states).advantage));
    PolicyLossInputs<float> inputs;
    inputs.offsets = micro.offsets;
    inputs.logps = values.logprobs;
    inputs.old_logps = old_logps;
    inputs.ref_logps = ref_logps;
    inputs.entropies = values.entropies;
    inputs.advantages = advantages;
    const PolicyLossResult<float> result = policy_loss(loss_, inputs, normaliser);
    outcome.loss += result.loss;
    merge_sums(outcome.sums, result.sums);
    if (old_logps.empty()) {
      compare_with_sampler(values.logprobs, joined(micro, states, &AnswerState::sampled_logps), outcome.sums);
      if (keep_logps) store(micro, values.logprobs, states, &AnswerState::old_logps);
    }
    walk_.backward(head_.backward(hidden_TD, micro.batch.targets, result.grad_logps, result.grad_entropies));
  }
  return outcome;
}

}  // namespace ferro
