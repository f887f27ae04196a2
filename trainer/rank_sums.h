#pragma once

#include "model/dist/communicator.h"
#include "trainer/metric_sums.h"
#include "trainer/policy_loss.h"

namespace ferro {

/// merge_sums over the ranks, in rank order: the same on all. Ranks may hold different names. A collective.
MetricSums sums_over_ranks(const MetricSums& sums, Communicator& communicator);

/// The normaliser of a step whose parts lie on the ranks. A collective.
LossNormaliser normaliser_over_ranks(const LossNormaliser& part, Communicator& communicator);

}  // namespace ferro
