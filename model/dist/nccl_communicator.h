#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>

#include "model/dist/communicator.h"

namespace ferro {

/// Names a group of ranks: rank 0 makes one, the others get its bytes (by the store).
struct NcclGroupId {
  std::array<char, 128> bytes{};
};
NcclGroupId make_nccl_group_id();

struct NcclOptions {
  int device = 0;                                         ///< CUDA device of this rank; buffers lie there.
  std::chrono::milliseconds start_timeout{120'000};       ///< For all ranks to arrive.
  std::chrono::milliseconds collective_timeout{600'000};  ///< For one collective, its buffers included.
};

/// Collectives over NVLink, PCIe or the network by NCCL; CUDA builds only. Non-blocking: every wait has a
/// deadline and ends with Error{kUnavailable} naming rank and operation; destruction aborts what is under
/// way. Buffers must be contiguous CUDA tensors of options.device. A call returns when its result is there.
/// Sums are in NCCL's order: the same bits on every rank, and on every run only with algorithm and protocol
/// pinned (NCCL_ALGO, NCCL_PROTO).
///
/// This class compiles and links, and has not been run: the project's machines have no GPU.
std::unique_ptr<Communicator> make_nccl_communicator(const NcclGroupId& id, int rank, int world_size,
                                                     const NcclOptions& options);

}  // namespace ferro
