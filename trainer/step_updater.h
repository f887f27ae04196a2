#pragma once

#include <cstdint>
#include <vector>

#include "model/dist/communicator.h"
#include "model/model_folder.h"
#include "trainer/optimizer.h"

namespace ferro {

/// The end of every optimizer step, whatever the loss: gradients of all ranks are summed, checked, clipped
/// and applied. One thread per rank.
class StepUpdater {
 public:
  /// `model` (with gradients, its own or its adapter's) and `communicator` must outlive it. `seed` keys the
  /// rounding of 8-bit moments. `shard_optimizer`: each rank holds the moments of its slice of what is
  /// trained and updates that; then all get all weights. The same bits as without.
  StepUpdater(Model& model, const OptimizerConfig& config, std::int64_t total_steps,
              Communicator& communicator, std::uint64_t seed = 0, bool shard_optimizer = false);

  /// Sum of `value` over the ranks.
  double sum_over_ranks(double value);
  /// Begins a step: gradients are zero, the adapter's dropout draws anew.
  void zero_gradients();

  struct Reduced {
    double loss = 0, gradient_norm = 0;
    bool finite = true;          ///< False: diverged; the update must not be applied.
    TrainedParts with_gradient;  ///< What the update reaches; the same on every rank.
  };
  /// Sums loss parts and gradients over the ranks: the one place where ranks' gradients meet. `pictures`: a
  /// row of this rank's step held one, whatever its gradient came to. Where no rank's did, vision tower and
  /// merger (and an adapter's layers in them) have no gradient and are not updated, as under transformers'
  /// Trainer, where the vision tower is called for batches with pixels only. One rank with pictures is enough
  /// for all, as under torch's DistributedDataParallel(find_unused_parameters=True).
  Reduced reduce(double loss_part, bool pictures);
  /// Clips and applies, at `rate_factor` times the schedule's rate; the schedule goes on whatever is updated.
  /// Returns the learning rate used.
  double apply(const Reduced& reduced, double rate_factor = 1.0);
  std::int64_t steps_done() const { return optimizer_.steps_done(); }
  AdamW& optimizer() { return optimizer_; }
  /// What the steps update: the adapter's arena where there is one, else the model's.
  const ParameterArena& trained() const { return trained_; }
  bool shards_optimizer() const { return !bounds_.empty(); }

 private:
  void gather_weights();

  Model& model_;
  ParameterArena& trained_;  ///< The adapter's arena where there is one.
  OptimizerConfig config_;
  std::int64_t total_steps_;
  Communicator& communicator_;
  AdamW optimizer_;
  std::vector<std::int64_t> bounds_;  ///< Of the ranks' slices of the gradient buffer; empty: not sharded.
};

}  // namespace ferro
