#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "model/dist/communicator.h"
#include "trainer/chunked_head.h"
#include "trainer/layer_walk.h"
#include "trainer/metric_sums.h"
#include "trainer/step_updater.h"

namespace ferro {

/// Forward and backward of the micro-batches of one supervised step. Loss: mean of -log p over all target
/// tokens of the optimizer step, over all micro-batches and ranks, so that no split changes it.
class SftStep {
 public:
  SftStep(Model& model, LayerWalk::Recompute recompute, std::vector<std::int32_t> banned_ids,
          const OptimizerConfig& optimizer, std::int64_t total_steps, Communicator& communicator,
          const Clock& clock, std::uint64_t seed = 0, bool shard_optimizer = false);

  struct Outcome {
    StepUpdater::Reduced reduced;
    MetricSums sums;          ///< "mean_token_accuracy", "entropy", of all ranks.
    std::int64_t tokens = 0;  ///< Packed tokens of all ranks.
    double forward_backward_seconds = 0, optimizer_seconds = 0;
  };
  /// Gradients of the step, reduced; nothing is updated yet. A collective: ranks may differ in the number of
  /// their micro-batches, or have none.
  Outcome gradients(std::span<const PackedBatch> micro_batches);
  /// Returns the learning rate used.
  double apply(Outcome& outcome);
  std::int64_t steps_done() const { return updater_.steps_done(); }
  StepUpdater& updater() { return updater_; }

 private:
  LayerWalk walk_;
  ChunkedHead head_;
  Communicator& communicator_;
  StepUpdater updater_;
  const Clock& clock_;
};

}  // namespace ferro
