#include "trainer/prompt_queue.h"

#include <utility>

#include "core/error.h"

namespace ferro {

PromptQueue::PromptQueue(SampleStream& stream, std::int64_t rows, Filter filter, std::size_t used)
    : stream_(stream), rows_(rows), filter_(std::move(filter)) {
  if (used == 0) return;
  Taken known;
  refill(known);
  if (used > rest_.samples.size())
    fail(ErrorCode::kData, "{} prompts of a step are used, it has {}: did the images change?", used,
         rest_.samples.size());
  at_ = used;
}

StreamPosition PromptQueue::stream_position() const {
  StreamPosition position = stream_.position();
  if (started_) position.cursor = rest_.begin;
  return position;
}

std::vector<std::int64_t> PromptQueue::waiting() const {
  std::vector<std::int64_t> rows;
  for (std::size_t i = at_; i < rest_.samples.size(); ++i) rows.push_back(rest_.samples[i].row);
  return rows;
}

void PromptQueue::refill(Taken& taken) {
  std::optional<SampleBatch> next = stream_.next();
  FERRO_CHECK(next.has_value(), "the stream of rows ended");
  rest_ = std::move(*next);
  at_ = 0;
  started_ = true;
  SampleBatch& batch = taken.batches.emplace_back();
  batch.epoch = rest_.epoch;
  batch.set_aside = std::move(rest_.set_aside);
}

PromptQueue::Taken PromptQueue::take(std::int64_t count) {
  Taken taken;
  taken.batches.emplace_back().epoch = rest_.epoch;
  std::int64_t found = 0, seen = 0;
  while (found < count) {
    if (at_ == rest_.samples.size()) {
      refill(taken);
      seen += rest_.rows;
      if (found == 0 && seen > 2 * rows_)
        fail(ErrorCode::kData,
             "two epochs of {} rows hold none whose pass rate lies within curriculum.min_pass_rate and "
             "max_pass_rate",
             rows_);
      continue;
    }
    Sample& sample = rest_.samples[at_++];
    const std::string why = filter_(sample, rest_.epoch);
    if (!why.empty()) {
      ++taken.passed_over[why];
      continue;
    }
    taken.batches.back().samples.push_back(std::move(sample));
    ++found;
  }
  taken.epochs_done = rest_.epochs_done;
  return taken;
}

}  // namespace ferro
