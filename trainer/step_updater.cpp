#include "trainer/step_updater.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/lora.h"

namespace ferro {

namespace {

const TrainedSet& checked(const ParameterArena& arena) {
  FERRO_CHECK(arena.gradients.defined(), "training needs a gradient arena");
  return arena.trained;
}

}  // namespace

StepUpdater::StepUpdater(Model& model, const OptimizerConfig& config, std::int64_t total_steps,
                         Communicator& communicator, std::uint64_t seed, bool shard_optimizer)
    : model_(model),
      trained_(model.adapter != nullptr ? model.adapter->arena : model.arena),
      config_(config),
      total_steps_(total_steps),
      communicator_(communicator),
      optimizer_(trained_.table, checked(trained_), config, seed) {
  if (!shard_optimizer || communicator.world_size() == 1) return;
  bounds_ = optimizer_.slice_bounds(communicator.world_size());
  optimizer_.keep_slice(communicator.rank(), communicator.world_size());
}

// What is trained lies in the weights in runs, between parts that are not; in the gradient buffer in a row.
void StepUpdater::gather_weights() {
  const std::vector<ParameterInfo>& parameters = trained_.table.parameters;
  const std::vector<std::int64_t>& places = trained_.trained.offsets;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (places[i] < 0) continue;
    const std::int64_t weight_begin = parameters[i].offset, begin = places[i];
    std::int64_t size = parameters[i].size;
    while (i + 1 < parameters.size() && places[i + 1] == begin + size &&
           parameters[i + 1].offset == weight_begin + size)
      size += parameters[++i].size;
    std::vector<std::int64_t> bounds;
    for (const std::int64_t bound : bounds_)
      bounds.push_back(std::clamp<std::int64_t>(bound - begin, 0, size));
    at::Tensor run = trained_.weights.narrow(0, weight_begin, size);
    communicator_.all_gather(run, bounds);
  }
}

double StepUpdater::sum_over_ranks(double value) {
  if (communicator_.world_size() == 1) return value;
  at::Tensor buffer = at::full({1}, value, at::kDouble);
  communicator_.all_reduce_sum(buffer);
  return buffer.item<double>();
}

void StepUpdater::zero_gradients() {
  trained_.gradients.zero_();
  if (model_.adapter == nullptr) return;
  model_.adapter->dropout->step = static_cast<std::uint64_t>(optimizer_.steps_done());
  model_.adapter->dropout->pass = 0;
}

StepUpdater::Reduced StepUpdater::reduce(double loss_part, bool pictures) {
  if (communicator_.world_size() > 1) communicator_.all_reduce_sum(trained_.gradients);
  Reduced reduced;
  reduced.loss = sum_over_ranks(loss_part);
  reduced.gradient_norm = optimizer_.gradient_norm(trained_.gradients);
  const bool any_pictures = communicator_.all_reduce_max(pictures ? 1 : 0) != 0;
  reduced.with_gradient = {.vision = any_pictures, .merger = any_pictures};
  reduced.finite = std::isfinite(reduced.loss) && std::isfinite(reduced.gradient_norm);
  return reduced;
}

double StepUpdater::apply(const Reduced& reduced, double rate_factor) {
  FERRO_CHECK(reduced.finite, "loss {}, gradient norm {}", reduced.loss, reduced.gradient_norm);
  const double rate = rate_factor * learning_rate_at(config_, optimizer_.steps_done(), total_steps_);
  optimizer_.step(trained_.weights, trained_.gradients, rate, reduced.gradient_norm, reduced.with_gradient);
  if (shards_optimizer()) gather_weights();
  return rate;
}

}  // namespace ferro
