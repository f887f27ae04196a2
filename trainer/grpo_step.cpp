#include "trainer/grpo_step.h"

#include <utility>

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

}  // namespace

GrpoStep::GrpoStep(const Model& policy, const Model* reference, const PolicyLossConfig& loss,
                   LayerWalk::Recompute recompute, std::vector<std::int32_t> banned_ids, double temperature,
                   RolloutCorrectionConfig correction)
    : loss_(loss),
      correction_(std::move(correction)),
      walk_(policy, recompute),
      head_(policy.weights.head, banned_ids, temperature) {
  FERRO_CHECK(reference != nullptr || loss.beta == 0, "beta {} needs a reference", loss.beta);
  if (reference == nullptr) return;
  reference_walk_ = std::make_unique<LayerWalk>(*reference, LayerWalk::Recompute::kFull);
  reference_head_ =
      std::make_unique<ChunkedHead>(reference->weights.head, std::move(banned_ids), temperature);
}

// What is known of a micro-batch's answers before its loss, token after token.
struct GrpoStep::Known {
  std::vector<float> old_logps, ref_logps, sampled_logps, advantages;
  RolloutCorrection<float> correction;

  Known(const MicroBatch& micro, States& states, std::span<const float> logps,
        const RolloutCorrectionConfig& config)
      : old_logps(joined(micro, states, &AnswerState::old_logps)),
        ref_logps(joined(micro, states, &AnswerState::ref_logps)),
        sampled_logps(joined(micro, states, &AnswerState::sampled_logps)) {
    for (const AnswerPlace& place : micro.answers)
      advantages.push_back(static_cast<float>(state_of(place, states).advantage));
    correction = rollout_correction<float>(config, micro.offsets, old_logps.empty() ? logps : old_logps,
                                           sampled_logps, {});
  }

  PolicyLossInputs<float> inputs(const MicroBatch& micro, const ChunkedHead::Forward& values) const {
    PolicyLossInputs<float> in;
    in.offsets = micro.offsets;
    in.logps = values.logprobs;
    in.entropies = values.entropies;
    in.old_logps = old_logps;
    in.ref_logps = ref_logps;
    in.sampling_logps = sampled_logps;
    in.token_correction = correction.token;
    in.sequence_correction = correction.sequence;
    in.advantages = advantages;
    return in;
  }
};

void GrpoStep::add_reference(const MicroBatch& micro, States& states) {
  if (!reference_walk_ || !joined(micro, states, &AnswerState::ref_logps).empty()) return;
  const at::Tensor hidden_TD = reference_walk_->forward(micro.batch, false);
  store(micro, reference_head_->forward(hidden_TD, micro.batch.targets).logprobs, states,
        &AnswerState::ref_logps);
}

void GrpoStep::score(std::span<const MicroBatch> micro_batches, States& states, bool with_reference) {
  for (const MicroBatch& micro : micro_batches) {
    if (micro.batch.targets.empty()) continue;
    if (with_reference) add_reference(micro, states);
    if (!joined(micro, states, &AnswerState::old_logps).empty()) continue;
    store(micro, head_.forward(walk_.forward(micro.batch, false), micro.batch.targets).logprobs, states,
          &AnswerState::old_logps);
  }
}

GrpoStep::Outcome GrpoStep::run(std::span<const MicroBatch> micro_batches, States& states,
                                const LossNormaliser& normaliser, bool keep_logps, const Clock& clock) {
  Outcome outcome;
  for (const MicroBatch& micro : micro_batches) {
    outcome.tokens += static_cast<std::int64_t>(micro.batch.tokens.size());
    if (micro.batch.targets.empty()) continue;
    const Stopwatch reference_watch(clock);
    if (loss_.beta != 0) add_reference(micro, states);
    outcome.reference_seconds += reference_watch.seconds();

    const at::Tensor hidden_TD = walk_.forward(micro.batch, true);
    ChunkedHead::Forward values = head_.forward(hidden_TD, micro.batch.targets, true);
    const Known known(micro, states, values.logprobs, correction_);
    const PolicyLossResult<float> result = policy_loss(loss_, known.inputs(micro, values), normaliser);
    outcome.loss += result.loss;
    outcome.entropy_bonus += result.entropy_bonus;
    merge_sums(outcome.sums, result.sums);
    merge_sums(outcome.sums, known.correction.sums);
    if (keep_logps && known.old_logps.empty()) store(micro, values.logprobs, states, &AnswerState::old_logps);
    walk_.backward(
        head_.backward(hidden_TD, micro.batch.targets, values, result.grad_logps, result.grad_entropies));
  }
  return outcome;
}

}  // namespace ferro
