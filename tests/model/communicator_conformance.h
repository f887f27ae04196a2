#pragma once

#include <string>
#include <vector>

#include "model/dist/communicator.h"

namespace ferro::testing {

/// What every Communicator must do, seen from one rank: call it on all ranks of a group at the same time,
/// each in its own thread or process. Returns what was wrong, one line each; expected values are computed
/// from rank and world size. `device` holds the buffers; `rank_order` asks for sums in rank order, bit by bit
/// (what the CPU's promise).
std::vector<std::string> check_communicator(Communicator& communicator, at::Device device, bool rank_order);

}  // namespace ferro::testing
