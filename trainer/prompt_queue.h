#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trainer/sample_stream.h"

namespace ferro {

/// Any number of prompts from a stream of whole steps: what one generation does not take waits for the next.
/// One thread.
class PromptQueue {
 public:
  /// Why a sample is passed over; "": it is used.
  using Filter = std::function<std::string(const Sample& sample, std::int64_t epoch)>;
  /// `stream` must outlive it and not end. `rows`: of an epoch. `used`: samples of the stream's first batch
  /// that were taken already.
  PromptQueue(SampleStream& stream, std::int64_t rows, Filter filter, std::size_t used = 0);

  struct Taken {
    std::vector<SampleBatch> batches;  ///< Of one epoch each, in data order; their set_aside is the stream's.
    std::map<std::string, std::int64_t> passed_over;  ///< By reason.
    double epochs_done = 0;
  };
  /// `count` prompts. Error{kData}: two epochs on end hold not one that is used.
  Taken take(std::int64_t count);
  /// Where a stream must start, and `used` of the queue on it, for the same prompts to follow.
  StreamPosition stream_position() const;
  std::size_t used() const { return at_; }
  std::vector<std::int64_t> waiting() const;  ///< Rows of prompts that are prepared and not yet taken.

 private:
  void refill(Taken& taken);

  SampleStream& stream_;
  std::int64_t rows_;
  Filter filter_;
  bool started_ = false;
  SampleBatch rest_;
  std::size_t at_ = 0;  ///< First sample of `rest_` that is left.
};

}  // namespace ferro
