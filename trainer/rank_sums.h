#pragma once

#include "model/dist/communicator.h"
#include "trainer/metric_sums.h"

namespace ferro {

/// merge_sums over the ranks, in rank order: the same on all. Ranks may hold different names. A collective.
MetricSums sums_over_ranks(const MetricSums& sums, Communicator& communicator);

}  // namespace ferro
