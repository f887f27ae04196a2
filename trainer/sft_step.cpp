#include "trainer/sft_step.h"

#include "trainer/rank_sums.h"

namespace ferro {

SftStep::SftStep(Model& model, LayerWalk::Recompute recompute, std::vector<std::int32_t> banned_ids,
                 const OptimizerConfig& optimizer, std::int64_t total_steps, Communicator& communicator,
                 const Clock& clock, std::uint64_t seed, bool shard_optimizer)
    : walk_(model, recompute),
      head_(model.weights.head, std::move(banned_ids), 1.0),
      communicator_(communicator),
      updater_(model, optimizer, total_steps, communicator, seed, shard_optimizer),
      clock_(clock) {}

SftStep::Outcome SftStep::gradients(std::span<const PackedBatch> micro_batches) {
  const Stopwatch watch(clock_);
  Outcome outcome;
  std::int64_t targets = 0;
  for (const PackedBatch& batch : micro_batches) targets += static_cast<std::int64_t>(batch.targets.size());
  const double targets_in_step = updater_.sum_over_ranks(static_cast<double>(targets));
  updater_.zero_gradients();
  double loss = 0;
  bool pictures = false;
  for (const PackedBatch& batch : micro_batches) {
    pictures = pictures || !batch.images.empty();
    outcome.tokens += static_cast<std::int64_t>(batch.tokens.size());
    if (batch.targets.empty()) continue;
    const at::Tensor hidden_TD = walk_.forward(batch, true);
    const auto [values, grad_hidden_TD] =
        head_.forward_backward(hidden_TD, batch.targets, static_cast<float>(-1.0 / targets_in_step));
    walk_.backward(grad_hidden_TD);
    double logprobs = 0, entropies = 0, correct = 0;
    for (std::size_t i = 0; i < values.logprobs.size(); ++i) {
      logprobs += static_cast<double>(values.logprobs[i]);
      entropies += static_cast<double>(values.entropies[i]);
      correct += values.correct[i];
    }
    const auto count = static_cast<double>(values.logprobs.size());
    loss -= logprobs / targets_in_step;
    add_to_mean(outcome.sums, "mean_token_accuracy", correct, count);
    add_to_mean(outcome.sums, "entropy", entropies, count);
  }
  outcome.reduced = updater_.reduce(loss, pictures);
  outcome.sums = sums_over_ranks(outcome.sums, communicator_);
  outcome.tokens = static_cast<std::int64_t>(updater_.sum_over_ranks(static_cast<double>(outcome.tokens)));
  outcome.forward_backward_seconds = watch.seconds();
  return outcome;
}

double SftStep::apply(Outcome& outcome) {
  const Stopwatch watch(clock_);
  const double rate = updater_.apply(outcome.reduced);
  outcome.optimizer_seconds = watch.seconds();
  return rate;
}

}  // namespace ferro
