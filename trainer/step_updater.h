#pragma once

#include <cstdint>

#include "model/dist/communicator.h"
#include "model/model_folder.h"
#include "trainer/optimizer.h"

namespace ferro {

/// The end of every optimizer step, whatever the loss: gradients of all ranks are summed, checked, clipped
/// and applied. One thread per rank.
class StepUpdater {
 public:
  /// `model` (with gradients) and `communicator` must outlive it.
  StepUpdater(Model& model, const OptimizerConfig& config, std::int64_t total_steps,
              Communicator& communicator);

  /// Sum of `value` over the ranks.
  double sum_over_ranks(double value);
  void zero_gradients();

  struct Reduced {
    double loss = 0, gradient_norm = 0;
    bool finite = true;  ///< False: diverged; the update must not be applied.
  };
  /// Sums loss parts and gradients over the ranks: the one place where ranks' gradients meet.
  Reduced reduce(double loss_part);
  /// Clips and applies. Returns the learning rate used.
  double apply(const Reduced& reduced);
  std::int64_t steps_done() const { return optimizer_.steps_done(); }

 private:
  Model& model_;
  OptimizerConfig config_;
  std::int64_t total_steps_;
  Communicator& communicator_;
  AdamW optimizer_;
};

}  // namespace ferro
