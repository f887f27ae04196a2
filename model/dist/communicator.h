#pragma once

#include <memory>
#include <vector>

#include "model/aten.h"

namespace ferro {

/// Collectives over one group of ranks. Every rank calls the same operations in the same order. Passed in by
/// constructor; there is no process-wide instance. Buffers are contiguous; sums are in rank order (same bits
/// on every rank and every run).
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual void all_reduce_sum(at::Tensor& buffer) = 0;
  virtual std::int64_t all_reduce_max(std::int64_t value) = 0;
  virtual void broadcast(at::Tensor& buffer, int root) = 0;
  virtual void barrier() = 0;
};

/// `world_size` ranks inside one process, one thread each. Element i is rank i's. A world of one costs
/// nothing.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int world_size);

}  // namespace ferro
