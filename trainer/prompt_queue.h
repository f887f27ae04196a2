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
  /// `stream` must outlive it and not end. `rows`: of an epoch.
  PromptQueue(SampleStream& stream, std::int64_t rows, Filter filter);

  struct Taken {
    std::vector<SampleBatch> batches;  ///< Of one epoch each, in data order; their set_aside is the stream's.
    std::map<std::string, std::int64_t> passed_over;  ///< By reason.
    double epochs_done = 0;
  };
  /// `count` prompts. Error{kData}: two epochs on end hold not one that is used.
  Taken take(std::int64_t count);

 private:
  void refill(Taken& taken);

  SampleStream& stream_;
  std::int64_t rows_;
  Filter filter_;
  SampleBatch rest_;
  std::size_t at_ = 0;  ///< First sample of `rest_` that is left.
};

}  // namespace ferro
