#include "trainer/sample_stream.h"

#include <algorithm>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainer/rank_world.h"

namespace ferro {
namespace {

constexpr std::size_t kStepsAhead = 3;

const char* reason_of(const Error& error) {
  if (error.code() == ErrorCode::kIo) return "image_missing";
  const bool too_long = std::string_view(error.what()).find("max_prompt_length") != std::string_view::npos;
  return too_long ? "prompt_too_long" : "image_unreadable";
}

[[noreturn]] void none_usable(const SetAsideRow& last, std::size_t rows) {
  const std::string reason =
      last.reason.empty() ? "" : fmt::format("; the last: row {}: {}", last.row, last.detail);
  fail(ErrorCode::kData, "{}: not one of its {} rows can be used{}", last.file, rows, reason);
}

}  // namespace

std::int64_t steps_per_epoch(std::int64_t rows, std::int64_t rows_per_step) {
  return (rows + rows_per_step - 1) / rows_per_step;
}

nlohmann::json StreamPosition::state() const {
  return {{"epoch", cursor.epoch}, {"position", cursor.position}, {"unusable", unusable}};
}

StreamPosition StreamPosition::from_state(const nlohmann::json& state) {
  return {{state.at("epoch").get<std::int64_t>(), state.at("position").get<std::int64_t>()},
          state.at("unusable").get<std::set<std::int64_t>>()};
}

SampleStream::SampleStream(const std::vector<Row>& rows, std::string file, const PromptBuilder& prompts,
                           SampleStreamOptions options)
    : rows_(rows),
      file_(std::move(file)),
      prompts_(prompts),
      options_(std::move(options)),
      order_(static_cast<std::int64_t>(rows.size()), options_.seed, options_.shuffle, options_.start.cursor),
      unusable_(options_.start.unusable),
      taken_(options_.start),
      queue_(kStepsAhead),
      thread_([this](const std::stop_token& stop) { prepare_all(stop); }) {}

SampleStream::~SampleStream() {
  thread_.request_stop();
  queue_.close();
}

std::optional<SampleBatch> SampleStream::next() {
  std::optional<SampleBatch> batch = queue_.pop();
  if (!batch && failure_) std::rethrow_exception(failure_);
  if (batch) {
    taken_.cursor = batch->end;
    drop_known(*batch);
    add_unusable(batch->unusable);
  }
  return batch;
}

void SampleStream::add_unusable(const std::vector<std::int64_t>& rows) {
  taken_.unusable.insert(rows.begin(), rows.end());
}

// A row that another rank named first comes here in a later epoch.
void SampleStream::drop_known(SampleBatch& batch) const {
  std::vector<SetAsideRow> set_aside;
  std::vector<std::int64_t> unusable;
  for (std::size_t i = 0; i < batch.unusable.size(); ++i) {
    if (taken_.unusable.contains(batch.unusable[i])) continue;
    unusable.push_back(batch.unusable[i]);
    set_aside.push_back(std::move(batch.set_aside[i]));
  }
  batch.unusable = std::move(unusable);
  batch.set_aside = std::move(set_aside);
}

std::int64_t join_ranks(SampleBatch& batch, SampleStream& stream, std::size_t rows, Communicator& world) {
  if (world.world_size() == 1) return static_cast<std::int64_t>(batch.samples.size());
  nlohmann::json own{{"samples", batch.samples.size()}, {"unusable", batch.unusable}};
  for (const SetAsideRow& row : batch.set_aside)
    own["set_aside"].push_back({row.file, row.row, row.reason, row.detail});
  std::int64_t samples = 0;
  batch.unusable.clear();
  batch.set_aside.clear();
  const auto replace = nlohmann::json::error_handler_t::replace;
  for (const std::string& text : gather_texts(own.dump(-1, ' ', false, replace), world)) {
    const nlohmann::json part = nlohmann::json::parse(text);
    samples += part.at("samples").get<std::int64_t>();
    for (const nlohmann::json& row : part.at("unusable")) batch.unusable.push_back(row.get<std::int64_t>());
    if (!part.contains("set_aside")) continue;
    for (const nlohmann::json& row : part.at("set_aside"))
      batch.set_aside.push_back({row.at(0).get<std::string>(), row.at(1).get<std::int64_t>(),
                                 row.at(2).get<std::string>(), row.at(3).get<std::string>()});
  }
  stream.add_unusable(batch.unusable);
  if (!batch.unusable.empty() && stream.position().unusable.size() == rows)
    none_usable(batch.set_aside.back(), rows);
  return samples;
}

void SampleStream::prepare_all(const std::stop_token& stop) {
  try {
    for (std::int64_t step = 0; step < options_.steps && !stop.stop_requested(); ++step) {
      SampleBatch batch = prepare_step();
      const SetAsideRow last =
          batch.set_aside.empty() ? SetAsideRow{file_, 0, "", ""} : batch.set_aside.back();
      // The batch goes out first: it names the rows that were set aside.
      if (!queue_.push(std::move(batch))) break;
      if (unusable_.size() == rows_.size()) none_usable(last, rows_.size());
    }
  } catch (...) {
    failure_ = std::current_exception();
  }
  queue_.close();
}

SampleBatch SampleStream::prepare_step() {
  const auto all = static_cast<std::int64_t>(rows_.size());
  // After an epoch's last row the cursor stands at its end until the next row is taken.
  const DataCursor start = order_.cursor();
  const bool at_end = start.position == all;
  SampleBatch batch;
  batch.begin = start;
  batch.epoch = at_end ? start.epoch + 1 : start.epoch;
  batch.rows = std::min(options_.rows_per_step, at_end ? all : all - start.position);
  const std::int64_t per_rank = (batch.rows + options_.world_size - 1) / options_.world_size;
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    const std::int64_t row = order_.next();
    if (i / per_rank == options_.rank) prepare_row(row, batch);
  }
  const DataCursor cursor = order_.cursor();
  batch.end = cursor;
  batch.epochs_done =
      static_cast<double>(cursor.epoch) + static_cast<double>(cursor.position) / static_cast<double>(all);
  return batch;
}

void SampleStream::prepare_row(std::int64_t index, SampleBatch& batch) {
  if (unusable_.contains(index)) return;
  const Row& row = rows_[static_cast<std::size_t>(index)];
  const AugmentKey key{options_.seed, row.id, batch.epoch};
  try {
    Sample sample{index, prompts_.build(row, options_.augment ? &key : nullptr), {}};
    if (options_.with_answers) sample.answer = prompts_.encode_answer(row.response);
    batch.samples.push_back(std::move(sample));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kIo) throw;
    unusable_.insert(index);
    batch.unusable.push_back(index);
    batch.set_aside.push_back({file_, row.id, reason_of(error), error.what()});
  }
}

}  // namespace ferro
