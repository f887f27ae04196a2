#pragma once

#include <functional>

#include "trainer/ranks_config.h"
#include "trainer/train.h"

namespace ferro {

/// Runs `job` as one rank of the job that torchrun's environment variables describe, or alone without them:
/// meets the others at the store of MASTER_ADDR:MASTER_PORT and speaks to them by Gloo from the address of
/// this machine by which that one is reached. Error{kUnavailable}: they do not come in time. Error{kConfig}:
/// variables that do not fit together, several processes in a build without Gloo.
void on_this_rank(const RanksConfig& config, const TrainEnvironment& environment,
                  const std::function<void(const TrainEnvironment&)>& job);

}  // namespace ferro
