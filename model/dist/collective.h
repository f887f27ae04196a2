#pragma once

#include <cstdint>

namespace ferro {

/// What a rank has begun: ranks compare it, so that one which calls another collective than the others is
/// named.
enum class Collective : std::int64_t {
  kNone,
  kStart,
  kAllReduceSum,
  kReduceScatterSum,
  kAllGather,
  kAllReduceMax,
  kBroadcast,
  kBarrier
};

/// As in Communicator; also for a number that another rank sent, whatever it is.
const char* name_of(Collective collective);

}  // namespace ferro
