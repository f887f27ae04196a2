#pragma once

#include <cstdint>
#include <string>

#include "core/config.h"

namespace ferro {

/// What each process of one job holds, and how they wait for each other (docs/scaling.md).
struct RanksConfig {
  std::string shard = "none";
  std::int64_t start_timeout_s = 300;
  std::int64_t collective_timeout_s = 1800;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("shard", shard, Choices{"none", "optimizer"},
            "optimizer: each rank holds the optimizer's moments of its slice of what is trained, and updates "
            "that. The same bits as none.");
    v.field("start_timeout_s", start_timeout_s, {.min = 1, .max = 86'400},
            "Seconds that a rank waits at the start for the others.");
    v.field(
        "collective_timeout_s", collective_timeout_s, {.min = 1, .max = 86'400},
        "Longest wait for another rank at a time: while it samples, and while rank 0 evaluates or writes a "
        "checkpoint, the others wait.");
  }
  bool shards_optimizer() const { return shard == "optimizer"; }
};

}  // namespace ferro
