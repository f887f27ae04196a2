#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/error.h"
#include "model/aten.h"

namespace ferro {

/// Collectives over one group of ranks. Every rank calls the same operations in the same order. Passed in by
/// constructor; there is no process-wide instance. Buffers are contiguous; sums are in rank order (same bits
/// on every rank and every run).
///
/// `bounds` [world_size + 1], the same on all ranks, ascending from 0 to the buffer's elements, cuts a buffer
/// into one slice for each rank: [bounds[r], bounds[r + 1]). Slices may be empty.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual at::Device device() const { return at::kCPU; }  ///< Where buffers lie.
  virtual void all_reduce_sum(at::Tensor& buffer) = 0;
  /// This rank's slice becomes the sum of all ranks' (the bits that all_reduce_sum gives); what the other
  /// slices then hold is not defined.
  virtual void reduce_scatter_sum(at::Tensor& buffer, std::span<const std::int64_t> bounds) = 0;
  /// Each rank's slice goes to all.
  virtual void all_gather(at::Tensor& buffer, std::span<const std::int64_t> bounds) = 0;
  virtual std::int64_t all_reduce_max(std::int64_t value) = 0;
  virtual void broadcast(at::Tensor& buffer, int root) = 0;
  virtual void barrier() = 0;
  /// This rank's job has failed: it leaves the group, and the present or next collective of every other rank
  /// ends with `reason` (the first, where several ranks give one), preceded by the rank. Does not throw.
  virtual void abandon(const Error& reason) noexcept = 0;
};

/// Bounds of slices whose lengths differ by one at most.
std::vector<std::int64_t> equal_bounds(std::int64_t elements, int ranks);

/// `world_size` ranks inside one process, one thread each. Element i is rank i's. A world of one costs
/// nothing.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int world_size);

}  // namespace ferro
