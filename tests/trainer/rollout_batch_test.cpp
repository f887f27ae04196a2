#include "trainer/rollout_batch.h"

#include <catch2/catch.hpp>

#include "core/clock.h"
#include "core/error.h"

namespace ferro {
namespace {

// Answers every prompt with its sample id and generation, last submitted first.
class ReversedSource final : public RolloutSource {
 public:
  void submit(RolloutRequest request) override { waiting_.push_back(std::move(request)); }
  std::optional<RolloutGroup> receive() override {
    if (waiting_.empty()) return std::nullopt;
    RolloutGroup group{waiting_.back(), {}};
    waiting_.pop_back();
    for (std::int32_t g = 0; g < group.request.num_generations; ++g) {
      Completion completion;
      completion.token_ids.assign(static_cast<std::size_t>(g + 1), 5);
      completion.logprobs.assign(static_cast<std::size_t>(g + 1), -1.0F);
      completion.text = std::to_string(group.request.sample_id) + "/" + std::to_string(g);
      completion.finish = g == 0 ? FinishReason::kStop : FinishReason::kLength;
      group.completions.push_back(std::move(completion));
    }
    return group;
  }

 private:
  std::vector<RolloutRequest> waiting_;
};

// The first generation is right; answers to sample 11 cannot be judged.
class PartialScorer final : public Scorer {
 public:
  const std::vector<std::string>& function_names() const override { return names_; }
  GroupVerdicts score(const ScoreRequest& request) override {
    GroupVerdicts verdicts;
    verdicts.verdicts.resize(1);
    for (const std::string& text : request.completions) {
      if (text.starts_with("11/")) {
        verdicts.verdicts[0].push_back({std::nullopt, "exception"});
      } else {
        verdicts.verdicts[0].push_back({text.ends_with("/0") ? 1.0 : 0.0, "ok"});
      }
    }
    return verdicts;
  }

 private:
  std::vector<std::string> names_{"accuracy"};
};

struct Setting {
  std::vector<Row> rows;
  SampleBatch batch;
  SystemClock clock;
  ReversedSource source;
  PartialScorer scorer;

  Setting() {
    for (std::int64_t i = 0; i < 3; ++i) {
      Row row;
      row.id = 10 + i;
      row.solution = i == 0 ? "happy" : "sad";
      rows.push_back(row);
      auto prompt = std::make_shared<Prompt>();
      prompt->ids = {1, 2, 3};
      batch.samples.push_back({i, prompt, {}});
    }
  }
  RolloutBatch collect() {
    RolloutSettings settings;
    settings.num_generations = 2;
    return RolloutCollector(source, scorer, rows, "rl.json", settings, clock).collect(batch);
  }
};

}  // namespace

TEST_CASE("groups come in data order, whatever the order of their arrival") {
  Setting s;
  const RolloutBatch out = s.collect();
  REQUIRE(out.groups.size() == 2);
  CHECK(out.groups[0].rollout.completions[1].text == "10/1");
  CHECK(out.groups[1].rollout.completions[0].text == "12/0");
}

TEST_CASE("a group that could not be judged is set aside and counted, never scored 0") {
  Setting s;
  const RolloutBatch out = s.collect();
  REQUIRE(out.set_aside.size() == 1);
  CHECK(out.set_aside[0].row == 11);
  CHECK(out.set_aside[0].reason == "unjudged");
  CHECK(out.metrics.at("rewards/accuracy/unjudged") == 2);
  // Of the four judged answers, two are right.
  CHECK(out.metrics.at("reward") == 0.5);
  CHECK(out.metrics.at("accuracy/happy") == 0.5);
  CHECK(out.metrics.at("completions/clipped_ratio") == 0.5);
  CHECK(out.groups[0].has_signal);
  CHECK(out.groups[0].advantages[0] == -out.groups[0].advantages[1]);
}

TEST_CASE("a generation without a judged group has no rewards and no advantages") {
  Setting s;
  s.batch.samples = {s.batch.samples[1]};
  const RolloutBatch out = s.collect();
  CHECK(out.groups.empty());
  CHECK(out.set_aside.size() == 1);
  CHECK(out.metrics.count("reward") == 0);
}

}  // namespace ferro
