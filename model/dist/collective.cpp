#include "model/dist/collective.h"

namespace ferro {

const char* name_of(Collective collective) {
  switch (collective) {
    case Collective::kNone:
      return "nothing";
    case Collective::kStart:
      return "start";
    case Collective::kAllReduceSum:
      return "all_reduce_sum";
    case Collective::kReduceScatterSum:
      return "reduce_scatter_sum";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kAllReduceMax:
      return "all_reduce_max";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kBarrier:
      return "barrier";
  }
  return "an unknown operation";
}

}  // namespace ferro
