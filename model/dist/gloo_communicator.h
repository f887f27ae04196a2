#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "model/dist/communicator.h"
#include "model/dist/rank_store.h"

namespace ferro {

struct GlooOptions {
  /// Address of this machine to listen on and to be reached by. Traffic is plain text: a trusted network's.
  std::string address = "127.0.0.1";
  /// Names the group among those of one store, such as "trainer/3" for the third incarnation.
  std::string group = "gloo";
  std::chrono::milliseconds start_timeout{120'000};       ///< For all ranks to arrive.
  std::chrono::milliseconds collective_timeout{600'000};  ///< For one collective.
};

/// Collectives between processes over TCP by Gloo, for CPU tensors. Sums are in rank order, and halves are
/// summed in fp32 and rounded once: the same bits as thread communicators give.
/// Before each collective the ranks agree on operation, size and dtype (Error{kInternal} naming both sides).
/// Error{kUnavailable} when one does not end in time or a peer is gone: it names this rank, the collective by
/// kind and number, and the ranks that are behind by what they posted in the store. The group is then of no
/// more use, and the other ranks are released. From the first group on, the process ignores SIGPIPE.
std::unique_ptr<Communicator> make_gloo_communicator(std::shared_ptr<RankStore> store, int rank,
                                                     int world_size, const GlooOptions& options);

}  // namespace ferro
