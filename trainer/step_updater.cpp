#include "trainer/step_updater.h"

#include <cmath>

#include "core/error.h"

namespace ferro {

StepUpdater::StepUpdater(Model& model, const OptimizerConfig& config, std::int64_t total_steps,
                         Communicator& communicator)
    : model_(model),
      config_(config),
      total_steps_(total_steps),
      communicator_(communicator),
      optimizer_(model.arena.table, config) {
  FERRO_CHECK(model.arena.gradients.defined(), "training needs a gradient arena");
}

double StepUpdater::sum_over_ranks(double value) {
  if (communicator_.world_size() == 1) return value;
  at::Tensor buffer = at::full({1}, value, at::kDouble);
  communicator_.all_reduce_sum(buffer);
  return buffer.item<double>();
}

void StepUpdater::zero_gradients() {
  model_.arena.gradients.zero_();
}

StepUpdater::Reduced StepUpdater::reduce(double loss_part) {
  if (communicator_.world_size() > 1) communicator_.all_reduce_sum(model_.arena.gradients);
  Reduced reduced;
  reduced.loss = sum_over_ranks(loss_part);
  reduced.gradient_norm = optimizer_.gradient_norm(model_.arena.gradients);
  reduced.finite = std::isfinite(reduced.loss) && std::isfinite(reduced.gradient_norm);
  return reduced;
}

double StepUpdater::apply(const Reduced& reduced) {
  FERRO_CHECK(reduced.finite, "loss {}, gradient norm {}", reduced.loss, reduced.gradient_norm);
  const double rate = learning_rate_at(config_, optimizer_.steps_done(), total_steps_);
  optimizer_.step(model_.arena.weights, model_.arena.gradients, rate, reduced.gradient_norm);
  return rate;
}

}  // namespace ferro
