#include "trainer/sample_stream.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"

namespace ferro {
namespace {

struct Streaming {
  testing::TinyJob job;
  DataConfig data;
  ModelConfig model;
  PromptSource source;
  Dataset dataset;

  explicit Streaming(std::int64_t max_prompt_length = 4096)
      : data(job.sft("x").data),
        model(ModelConfig::load(job.root() / "base/config.json")),
        source(job.root() / "base", model, with_length(data, max_prompt_length), {}, job.environment),
        dataset(load_training_rows(data, RowKind::kSft)) {}
  static const DataConfig& with_length(DataConfig& config, std::int64_t length) {
    config.max_prompt_length = length;
    return config;
  }
  std::vector<SampleBatch> all(SampleStreamOptions options) const {
    SampleStream stream(dataset.rows, dataset.path, source.prompts(), options);
    std::vector<SampleBatch> batches;
    while (std::optional<SampleBatch> batch = stream.next()) batches.push_back(std::move(*batch));
    return batches;
  }
};

}  // namespace

TEST_CASE("steps do not cross epochs, and every row is taken once in each") {
  const Streaming s;
  // 24 rows, 10 a step: 10, 10, 4.
  const auto batches = s.all({.rows_per_step = 10, .steps = 6, .seed = 1, .with_answers = true});
  REQUIRE(batches.size() == 6);
  std::set<std::int64_t> seen;
  for (std::size_t i = 0; i < 3; ++i)
    for (const Sample& sample : batches[i].samples) CHECK(seen.insert(sample.row).second);
  CHECK(seen.size() == 23);  // one image cannot be read
  CHECK(batches[2].rows == 4);
  CHECK(batches[2].epochs_done == 1.0);
  CHECK(batches[3].epoch == 1);
  CHECK(batches[0].samples[0].answer.size() > 3);
}

TEST_CASE("ranks share a step's rows without overlap") {
  const Streaming s;
  const auto whole = s.all({.rows_per_step = 8, .steps = 3, .seed = 1});
  const auto first = s.all({.rows_per_step = 8, .steps = 3, .seed = 1, .rank = 0, .world_size = 2});
  const auto second = s.all({.rows_per_step = 8, .steps = 3, .seed = 1, .rank = 1, .world_size = 2});
  for (std::size_t i = 0; i < 3; ++i) {
    std::vector<std::int64_t> expected, got;
    for (const Sample& sample : whole[i].samples) expected.push_back(sample.row);
    for (const Sample& sample : first[i].samples) got.push_back(sample.row);
    for (const Sample& sample : second[i].samples) got.push_back(sample.row);
    CHECK(got == expected);
  }
}

TEST_CASE(
    "prompts above the limit are set aside with their reason, and a file of nothing else ends the run") {
  const Streaming s(5);
  SampleStream stream(s.dataset.rows, s.dataset.path, s.source.prompts(), {.rows_per_step = 10, .steps = 3});
  const auto first = stream.next();
  REQUIRE(first.has_value());
  CHECK(first->samples.empty());
  CHECK(first->set_aside.at(0).reason == "prompt_too_long");
  const auto read_all = [&] {
    while (stream.next()) continue;
  };
  CHECK_THROWS_WITH(read_all(), Catch::Contains("sft.json") && Catch::Contains("24 rows"));
}

TEST_CASE("a stream that is left early ends its thread") {
  const Streaming s;
  SampleStream stream(s.dataset.rows, s.dataset.path, s.source.prompts(),
                      {.rows_per_step = 2, .steps = 1000});
  CHECK(stream.next().has_value());
}

}  // namespace ferro
