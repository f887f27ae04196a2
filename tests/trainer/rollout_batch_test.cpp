#include "trainer/rollout_batch.h"

#include <cmath>

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

// The first generation is right; answers to sample 11 cannot be judged, the first to sample 13 has no number,
// those to sample 14 are all right.
class PartialScorer final : public Scorer {
 public:
  const std::vector<std::string>& function_names() const override { return names_; }
  GroupVerdicts score(const ScoreRequest& request) override {
    GroupVerdicts verdicts;
    verdicts.verdicts.resize(1);
    for (const std::string& text : request.completions) {
      if (text.starts_with("11/")) {
        verdicts.verdicts[0].push_back({std::nullopt, "exception"});
      } else if (text == "13/0") {
        verdicts.verdicts[0].push_back({std::nan(""), "ok"});
      } else if (text.starts_with("14/")) {
        verdicts.verdicts[0].push_back({1.0, "ok"});
      } else {
        verdicts.verdicts[0].push_back({text.ends_with("/0") ? 1.0 : 0.0, "ok"});
      }
    }
    return verdicts;
  }

 private:
  std::vector<std::string> names_{"accuracy"};
};

struct Collecting {
  std::vector<Row> rows;
  SampleBatch batch;
  SystemClock clock;
  ReversedSource source;
  PartialScorer scorer;

  Collecting() {
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
  void add_row(std::int64_t id) {
    Row row;
    row.id = id;
    row.solution = "sad";
    rows.push_back(row);
    batch.samples.push_back({static_cast<std::int64_t>(rows.size()) - 1, batch.samples[0].prompt, {}});
  }
  static RolloutSettings two_answers() {
    RolloutSettings settings;
    settings.num_generations = 2;
    return settings;
  }
  RolloutBatch collect(const RolloutSettings& settings = two_answers()) {
    return RolloutCollector(source, scorer, rows, "rl.json", settings, clock).collect(batch);
  }
};

}  // namespace

TEST_CASE("groups come in data order, whatever the order of their arrival") {
  Collecting s;
  const RolloutBatch out = s.collect();
  REQUIRE(out.groups.size() == 2);
  CHECK(out.groups[0].rollout.completions[1].text == "10/1");
  CHECK(out.groups[1].rollout.completions[0].text == "12/0");
}

TEST_CASE("a group that could not be judged is set aside and counted, never scored 0") {
  Collecting s;
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

TEST_CASE("kept as TRL keeps it, an answer without a reward has advantage 0 and leaves every mean") {
  Collecting s;
  RolloutSettings settings = Collecting::two_answers();
  settings.keep_unjudged = true;
  const RolloutBatch out = s.collect(settings);
  REQUIRE(out.groups.size() == 3);
  CHECK(out.set_aside.empty());
  CHECK(out.groups[1].advantages == std::vector<double>{0, 0});
  CHECK_FALSE(out.groups[1].rewards[0].has_value());
  CHECK(out.metrics.at("rewards/accuracy/unjudged") == 2);
  CHECK(out.metrics.at("groups/fewer_than_two_rewards") == 1);
  CHECK(out.metrics.at("reward") == 0.5);
  CHECK(out.metrics.at("accuracy/sad") == 0.5);  // Of the two judged answers.
}

TEST_CASE("a reward that is not a number is none, and counted") {
  Collecting s;
  s.add_row(13);
  const RolloutBatch out = s.collect();
  REQUIRE(out.set_aside.size() == 2);
  CHECK(out.set_aside[1].row == 13);
  CHECK(out.set_aside[1].detail == "accuracy: not_finite");
  CHECK(out.metrics.at("rewards/accuracy/not_finite") == 1);
  CHECK(out.metrics.at("rewards/accuracy/unjudged") == 3);
  CHECK(out.metrics.at("reward") == 0.5);
}

TEST_CASE("groups that agree are dropped, named and counted where they are not wanted") {
  Collecting s;
  s.add_row(14);
  RolloutCollector collector(s.source, s.scorer, s.rows, "rl.json", Collecting::two_answers(), s.clock);
  RolloutBatch out;
  collector.add(s.batch, out);
  REQUIRE(out.groups.size() == 3);
  collector.drop_without_signal(out);
  REQUIRE(out.groups.size() == 2);
  CHECK(out.metrics.at("dynamic_sampling/dropped_high") == 1);
  CHECK(out.metrics.at("dynamic_sampling/dropped_low") == 0);
  CHECK(out.set_aside.back().row == 14);
  CHECK(out.set_aside.back().reason == "no_signal");
  collector.finish(out, {});
  CHECK(out.metrics.at("frac_reward_zero_std") == 0);
  CHECK(out.metrics.at("groups/without_signal") == 0);
}

TEST_CASE("the overlong penalty falls over the buffer and is one of the rewards") {
  // Longest 10, buffer 4: free up to 6, then a quarter a token.
  CHECK(overlong_penalty(6, 10, 4) == 0);
  CHECK(overlong_penalty(7, 10, 4) == -0.25);
  CHECK(overlong_penalty(10, 10, 4) == -1);
  CHECK(overlong_penalty(12, 10, 4) == -1);
  CHECK(overlong_penalty(10, 10, 0) == 0);

  Collecting s;
  RolloutSettings settings = Collecting::two_answers();
  settings.sampling.max_completion_length = 2;
  settings.overlong_buffer = 2;
  settings.overlong_penalty_factor = 0.5;
  const RolloutBatch out = s.collect(settings);
  // Lengths 1 and 2: penalties -0.5 and -1, halved; accuracy 1 and 0.
  CHECK((out.groups[0].rewards == OptionalRewards{0.75, -0.5}));
  CHECK(out.metrics.at("rewards/overlong/mean") == -0.75);
}

TEST_CASE("rewards and lengths are told by label") {
  Collecting s;
  const RolloutBatch out = s.collect();
  CHECK(out.metrics.at("reward/by_label/happy") == 0.5);
  CHECK(out.metrics.at("length/by_label/happy") == 1.5);
  CHECK(out.metrics.at("completions/empty") == 0);
}

TEST_CASE("a penalty counts in the advantage and not in the reward that is told") {
  Collecting s;
  s.batch.samples.resize(1);
  RolloutCollector collector(s.source, s.scorer, s.rows, "rl.json", Collecting::two_answers(), s.clock);
  RolloutBatch out;
  collector.add(s.batch, out);
  const std::vector<double> penalties{2, 0};  // 1 - 2 and 0: the second is the better one.
  collector.finish(out, penalties);
  CHECK(out.groups[0].advantages[1] > 0);
  CHECK(out.metrics.at("reward") == 0.5);
}

TEST_CASE("a generation without a judged group has no rewards and no advantages") {
  Collecting s;
  s.batch.samples = {s.batch.samples[1]};
  const RolloutBatch out = s.collect();
  CHECK(out.groups.empty());
  CHECK(out.set_aside.size() == 1);
  CHECK(out.metrics.count("reward") == 0);
}

}  // namespace ferro
