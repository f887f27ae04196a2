#include "trainer/prompt_queue.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"

namespace ferro {
namespace {

struct Setting {
  testing::TinyJob job;
  DataConfig data;
  PromptSource source;
  Dataset dataset;
  SampleStream stream;

  Setting()
      : data(job.grpo("x", "base").data),
        source(job.root() / "base", ModelConfig::load(job.root() / "base/config.json"), data, {},
               job.environment),
        dataset(load_training_rows(data, RowKind::kRl)),
        stream(dataset.rows, dataset.path, source.prompts(),
               {.rows_per_step = 7, .steps = std::numeric_limits<std::int64_t>::max(), .seed = 1}) {}
  PromptQueue queue(PromptQueue::Filter filter) {
    return {stream, static_cast<std::int64_t>(dataset.rows.size()), std::move(filter)};
  }
};

std::vector<std::pair<std::int64_t, std::int64_t>> rows_of(const PromptQueue::Taken& taken) {
  std::vector<std::pair<std::int64_t, std::int64_t>> rows;
  for (const SampleBatch& batch : taken.batches)
    for (const Sample& sample : batch.samples) rows.emplace_back(batch.epoch, sample.row);
  return rows;
}

}  // namespace

TEST_CASE("any number of prompts is taken, each row once an epoch, in data order") {
  Setting s;
  PromptQueue queue = s.queue([](const Sample&, std::int64_t) { return ""; });
  std::set<std::pair<std::int64_t, std::int64_t>> seen;
  for (const std::int64_t count : {3, 10, 1, 9, 5}) {
    const auto rows = rows_of(queue.take(count));
    CHECK(static_cast<std::int64_t>(rows.size()) == count);
    for (const auto& row : rows) CHECK(seen.insert(row).second);
  }
  // 23 of 24 rows can be used: 28 prompts end the first epoch.
  CHECK(std::count_if(seen.begin(), seen.end(), [](const auto& row) { return row.first == 0; }) == 23);

  Setting again;
  PromptQueue whole = again.queue([](const Sample&, std::int64_t) { return ""; });
  Setting parts;
  PromptQueue piecewise = parts.queue([](const Sample&, std::int64_t) { return ""; });
  auto first = rows_of(piecewise.take(4));
  for (const auto& row : rows_of(piecewise.take(6))) first.push_back(row);
  CHECK(rows_of(whole.take(10)) == first);
}

TEST_CASE("prompts that are passed over are counted, and others taken in their place") {
  Setting s;
  PromptQueue queue = s.queue([](const Sample& sample, std::int64_t epoch) {
    return epoch == 0 && sample.row % 2 == 0 ? "too_easy" : "";
  });
  const PromptQueue::Taken taken = queue.take(11);  // All odd rows but row 7, whose image cannot be read.
  for (const auto& [epoch, row] : rows_of(taken)) CHECK(row % 2 == 1);
  CHECK(taken.passed_over.at("too_easy") > 0);
  CHECK(rows_of(taken).size() == 11);
}

TEST_CASE("prompts that are all passed over end the run instead of going on for ever") {
  Setting s;
  PromptQueue queue = s.queue([](const Sample&, std::int64_t) { return "too_hard"; });
  CHECK_THROWS_WITH(queue.take(1), Catch::Contains("max_pass_rate"));
}

}  // namespace ferro
