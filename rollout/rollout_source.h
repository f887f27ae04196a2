#pragma once

#include <optional>

#include "data/rollout.h"

namespace ferro {

/// Where groups come from: the engine in this process, or (later) a dispatcher for remote workers. One
/// thread.
class RolloutSource {
 public:
  virtual ~RolloutSource() = default;
  virtual void submit(RolloutRequest request) = 0;
  /// The next finished group, in any order; empty when nothing is outstanding.
  virtual std::optional<RolloutGroup> receive() = 0;
};

}  // namespace ferro
