#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "core/clock.h"
#include "data/image_input.h"
#include "data/image_processor_config.h"
#include "reward/scorer.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {

class Communicator;

/// What a job needs from outside: the OpenCV image loader and the gRPC client of a reward service (made in
/// launch/, because LibTorch targets see neither OpenCV nor protobuf), the stop flag, time.
struct TrainEnvironment {
  std::function<std::unique_ptr<ImageLoader>(const ImageProcessorConfig&, const AugmentConfig&,
                                             std::size_t cache_entries)>
      make_loader;
  /// Asked when `reward_service.endpoints` is not empty.
  std::function<std::unique_ptr<Scorer>(const RewardClientConfig&, const std::vector<std::string>& functions)>
      make_remote_scorer{};
  std::stop_token stop;
  const Clock* clock = nullptr;
  /// The ranks that do this job together, each with an environment of its own; null: this process alone.
  Communicator* ranks = nullptr;
};

/// Run a whole job: config in, run folder out. Errors as documented in docs/exit-codes.md. With several ranks
/// each calls this with the same configuration, on one file system; rank 0 alone writes the run folder and
/// evaluates, and what ends one rank ends all with the same message and code.
void train_sft(const SftConfig& config, const TrainEnvironment& environment);
void train_grpo(const GrpoConfig& config, const TrainEnvironment& environment);

}  // namespace ferro
