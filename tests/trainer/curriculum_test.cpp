#include <fstream>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/config.h"
#include "core/error.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "trainer/grpo_config.h"
#include "trainer/pass_rates.h"
#include "trainer/training_guard.h"

namespace ferro {
namespace {

JudgedGroup group_of_epoch(std::int64_t epoch, OptionalRewards values) {
  JudgedGroup group;
  group.rollout.request.epoch = epoch;
  group.values.push_back(std::move(values));
  return group;
}

// Reads a configuration with these further lines.
GrpoConfig config_with(const std::string& lines) {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "grpo.yaml", "model_name_or_path: m\ndata: {train_file: x}\n" + lines);
  return load_config<GrpoConfig>(folder / "grpo.yaml", {});
}

}  // namespace

TEST_CASE("settings that contradict each other are refused by name") {
  const std::vector<std::pair<std::string, std::string>> refused{
      {"num_generations: 1\n", "num_generations"},
      {"loss: {delta: 1.1}\n", "loss.delta"},
      {"loss: {top_entropy_quantile: 0}\n", "loss.top_entropy_quantile"},
      {"loss: {loss_type: rloo, importance_sampling_level: sequence}\n", "loss.importance_sampling_level"},
      {"loss: {loss_type: ppo}\n", "loss.loss_type"},
      {"loss: {kl_estimator: k4}\n", "loss.kl_estimator"},
      {"kl_in_reward: true\n", "kl_in_reward"},
      {"reward_clip_range: [1, 0]\n", "reward_clip_range"},
      {"max_completion_length: 8\noverlong_buffer: 9\n", "overlong_buffer"},
      {"unjudged: trl\ncurriculum: {dynamic_sampling: true}\n", "unjudged"},
      {"curriculum: {min_pass_rate: 0.9, max_pass_rate: 0.1}\n", "curriculum.max_pass_rate"},
      {"guard: {min_entropy: 2, max_entropy: 1}\n", "guard.max_entropy"},
      {"rollout_correction: {vllm_importance_sampling_clip_max: 0.5, vllm_importance_sampling_clip_min: "
       "0.9}\n",
       "rollout_correction.vllm_importance_sampling_clip_max"}};
  for (const auto& [lines, key] : refused) {
    INFO(lines);
    testing::expect_error(ErrorCode::kConfig, [&] { config_with(lines); }, {key});
  }
  CHECK_NOTHROW(config_with("num_generations: 1\nadvantage_estimator: reinforce_plus_plus\n"));
  CHECK(config_with("loss: {delta: 1.5, beta: 0.1}\nkl_in_reward: true\n").loss.delta == 1.5);
}

TEST_CASE("a row is passed over by its rate of the epoch before, and asked again an epoch later") {
  CurriculumConfig config;
  config.min_pass_rate = 0.25;
  config.max_pass_rate = 0.75;
  PassRates rates(config);
  CHECK(rates.note(5, group_of_epoch(0, {1.0, 1.0, 1.0, 1.0})) == 1.0);
  CHECK(rates.note(6, group_of_epoch(0, {0.0, 0.0, 0.0, 0.0})) == 0.0);
  CHECK(rates.note(7, group_of_epoch(0, {1.0, 0.0, std::nullopt, 0.0})) == Approx(1.0 / 3));
  CHECK(rates.why_not(5, 0).empty());
  CHECK(rates.why_not(5, 1) == "too_easy");
  CHECK(rates.why_not(6, 1) == "too_hard");
  CHECK(rates.why_not(7, 1).empty());
  CHECK(rates.why_not(8, 1).empty());  // Never asked.
  CHECK(rates.why_not(5, 2).empty());
}

TEST_CASE("pass rates of an earlier run hold in every epoch, and a bad line is named") {
  const testing::ScratchFolder folder;
  CurriculumConfig config;
  config.max_pass_rate = 0.9;
  config.pass_rates_file = (folder / "rates.jsonl").string();
  write_file_atomically(folder / "rates.jsonl",
                        "{\"epoch\":0,\"row\":3,\"pass_rate\":0.5}\n{\"row\":3,\"pass_rate\":1.0}\n");
  PassRates rates(config);
  CHECK(rates.why_not(3, 0) == "too_easy");
  CHECK(rates.why_not(3, 4) == "too_easy");
  rates.note(3, group_of_epoch(0, {0.0}));
  CHECK(rates.why_not(3, 1) == "too_easy");

  write_file_atomically(folder / "rates.jsonl",
                        "{\"row\":3,\"pass_rate\":0.5}\n{\"row\":3,\"pass_rate\":2}\n");
  CHECK_THROWS_WITH(PassRates(config), Catch::Contains("rates.jsonl:2"));
  config.pass_rates_file = (folder / "absent.jsonl").string();
  CHECK_THROWS_WITH(PassRates(config), Catch::Contains("absent.jsonl"));
}

TEST_CASE("updates that are not finite stop the run, or are left out, counted, and stop it when they go on") {
  TrainingGuard strict{GuardConfig{}};
  CHECK(strict.before_update(true) == TrainingGuard::Update::kApply);
  CHECK(strict.before_update(false) == TrainingGuard::Update::kStop);

  GuardConfig config;
  config.on_non_finite = "skip";
  config.max_skipped_in_a_row = 2;
  TrainingGuard patient(config);
  CHECK(patient.before_update(false) == TrainingGuard::Update::kSkip);
  CHECK(patient.before_update(false) == TrainingGuard::Update::kSkip);
  CHECK(patient.before_update(true) == TrainingGuard::Update::kApply);
  CHECK(patient.before_update(false) == TrainingGuard::Update::kSkip);
  CHECK(patient.metrics().at("updates/skipped_non_finite") == 3);
  CHECK(patient.before_update(false) == TrainingGuard::Update::kSkip);
  CHECK(patient.before_update(false) == TrainingGuard::Update::kStop);
}

TEST_CASE("bounds on kl and entropy say what left them, and lower the rate where they are to") {
  GuardConfig config;
  config.max_kl = 1;
  config.min_entropy = 0.5;
  config.on_divergence = "lower_rate";
  config.rate_factor = 0.5;
  TrainingGuard guard(config);
  CHECK(guard.after_step({{"kl", 0.5}, {"entropy", 0.7}}).empty());
  CHECK(guard.after_step({{"entropy", 0.7}}).empty());
  CHECK(guard.rate_factor() == 1);
  CHECK(guard.after_step({{"kl", 2.0}, {"entropy", 0.25}}) ==
        "kl 2 is above guard.max_kl 1, entropy 0.25 is below guard.min_entropy 0.5");
  CHECK(guard.rate_factor() == 0.5);
  CHECK(guard.metrics().at("guard/out_of_bounds") == 1);
  CHECK_FALSE(guard.stops_on_divergence());
}

}  // namespace ferro
