#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "core/bounded_queue.h"
#include "data/data_order.h"
#include "data/dataset_reader.h"
#include "data/prompt_builder.h"
#include "model/dist/communicator.h"

namespace ferro {

/// One row, ready to train on.
struct Sample {
  std::int64_t row = 0;  ///< Index into the stream's rows.
  std::shared_ptr<const Prompt> prompt;
  std::vector<std::int32_t>
      answer;  ///< Ids of the row's response with the end of turn; empty unless asked for.
};

/// The rows of one step, in data order. Rows that could not be prepared are missing and named.
struct SampleBatch {
  std::int64_t epoch = 0;       ///< Of the rows.
  double epochs_done = 0;       ///< After this step.
  DataCursor begin, end;        ///< Before its first row and after its last.
  std::int64_t rows = 0;        ///< Rows taken from the order, over all ranks, prepared or not.
  std::vector<Sample> samples;  ///< This rank's.
  std::vector<SetAsideRow>
      set_aside;  ///< "image_missing", "image_unreadable", "prompt_too_long": each row once per run.
  std::vector<std::int64_t> unusable;  ///< Indices of those rows.
};

/// Where a stream stands for whoever takes from it, however far ahead it prepares.
struct StreamPosition {
  DataCursor cursor;
  std::set<std::int64_t> unusable;  ///< Rows that were set aside; passed over from then on.
  nlohmann::json state() const;     ///< What from_state() takes.
  static StreamPosition from_state(const nlohmann::json& state);
};

struct SampleStreamOptions {
  std::int64_t rows_per_step = 1;  ///< Of all ranks together; an epoch's last step may have fewer.
  std::int64_t steps = 1;
  std::uint64_t seed = 0;
  bool shuffle = true;
  bool augment = false;
  bool with_answers = false;
  StreamPosition start = {};     ///< Where the first step begins.
  int rank = 0, world_size = 1;  ///< Rank r prepares the r-th of world_size equal parts of a step's rows.
};

/// Prepares the steps' rows (images, token ids, positions) on a thread of its own, ahead of their use. What
/// comes out is a pure function of rows and options. Steps do not cross epochs. `next` from one thread; rows,
/// builder and file name must outlive the stream.
class SampleStream {
 public:
  SampleStream(const std::vector<Row>& rows, std::string file, const PromptBuilder& prompts,
               SampleStreamOptions options);
  ~SampleStream();
  SampleStream(const SampleStream&) = delete;
  SampleStream& operator=(const SampleStream&) = delete;

  /// Empty after the last step. Error{kData}: a whole epoch without a usable row. Rethrows what ended the
  /// thread.
  std::optional<SampleBatch> next();
  /// After what next() returned last.
  const StreamPosition& position() const { return taken_; }
  /// Rows that another rank's stream could not prepare: part of the position, and not named again by this
  /// one.
  void add_unusable(const std::vector<std::int64_t>& rows);

 private:
  void prepare_all(const std::stop_token& stop);
  SampleBatch prepare_step();
  void prepare_row(std::int64_t row, SampleBatch& batch);
  void drop_known(SampleBatch& batch) const;

  const std::vector<Row>& rows_;
  const std::string file_;
  const PromptBuilder& prompts_;
  const SampleStreamOptions options_;
  DataOrder order_;
  std::set<std::int64_t> unusable_;
  StreamPosition taken_;
  BoundedQueue<SampleBatch> queue_;
  std::exception_ptr failure_;  ///< Written before the queue is closed, read after.
  std::jthread thread_;
};

/// The batch's rows that were set aside become those of all ranks, in data order, each once per run. Returns
/// the samples of all ranks. Error{kData} on all: no row is left. A collective.
std::int64_t join_ranks(SampleBatch& batch, SampleStream& stream, std::size_t rows, Communicator& world);

/// Optimizer steps of an epoch over `rows` rows.
std::int64_t steps_per_epoch(std::int64_t rows, std::int64_t rows_per_step);

}  // namespace ferro
