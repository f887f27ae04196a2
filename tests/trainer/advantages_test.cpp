#include "trainer/advantages.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

AdvantageResult advantages_with(const char* estimator, const OptionalRewards& rewards,
                                std::int64_t generations) {
  AdvantageSettings settings;
  settings.advantage_estimator = estimator;
  return compute_advantages(settings, {rewards}, {}, generations);
}

AdvantageResult scaled(const char* scale_rewards, const OptionalRewards& rewards, std::int64_t generations) {
  AdvantageSettings settings;
  settings.scale_rewards = scale_rewards;
  return compute_advantages(settings, {rewards}, {}, generations);
}

}  // namespace

TEST_CASE("a group whose rewards agree carries no signal") {
  const OptionalRewards rewards{0.3, 0.3, 0.3, 0.0, 1.0, 0.0};
  for (const char* scale : {"group", "batch", "none"}) {
    const auto result = scaled(scale, rewards, 3);
    CHECK(result.has_signal == std::vector<bool>{false, true});
    CHECK(result.rewards_differ == std::vector<bool>{false, true});
    CHECK(result.advantages[0] == 0.0);
    CHECK(result.group_std[0] == 0.0);
  }
  for (const char* estimator : {"rloo", "reinforce_plus_plus_baseline"}) {
    const auto result = advantages_with(estimator, rewards, 3);
    CHECK(result.has_signal == std::vector<bool>{false, true});
    CHECK(result.advantages[0] == 0.0);
  }
}

TEST_CASE("an answer without a reward gets no advantage and leaves the others' mean alone") {
  // Mean of {0, 1} is .5; std with n - 1 is sqrt(.5).
  const OptionalRewards rewards{0.0, std::nullopt, 1.0};
  const auto result = scaled("group", rewards, 3);
  CHECK(result.advantages[1] == 0.0);
  CHECK(result.advantages[2] == Approx(0.5 / (std::sqrt(0.5) + 1e-4)));
  for (const char* estimator : {"grpo", "rloo"}) {
    const auto alone = advantages_with(estimator, {std::nullopt, 1.0}, 2);
    CHECK(std::isnan(alone.group_std[0]));
    CHECK(alone.advantages == std::vector<double>{0.0, 0.0});
    CHECK(alone.has_signal == std::vector<bool>{false});
  }
}

TEST_CASE("functions without a value count nothing, and all without give no reward") {
  const std::vector<OptionalRewards> values{{1.0, std::nullopt, std::nullopt}, {0.5, 0.5, std::nullopt}};
  const std::vector<double> weights{2.0, -1.0};
  CHECK((combine_rewards(values, weights) == OptionalRewards{1.5, -0.5, std::nullopt}));
  CHECK((combine_rewards(values, {}) == OptionalRewards{1.5, 0.5, std::nullopt}));
}

TEST_CASE("REINFORCE++ compares with the batch, its baseline form with the group first") {
  // Two groups: {1, 0} and {3, 2}. Over the batch: mean 1.5, squares 2 * (1.5^2 + 0.5^2) = 5, std sqrt(5/3).
  const OptionalRewards rewards{1.0, 0.0, 3.0, 2.0};
  const auto plain = advantages_with("reinforce_plus_plus", rewards, 2);
  const double std = std::sqrt(5.0 / 3) + 1e-4;
  CHECK(plain.advantages[0] == Approx(-0.5 / std));
  CHECK(plain.advantages[1] == Approx(-1.5 / std));
  CHECK(plain.advantages[2] == Approx(1.5 / std));
  CHECK(plain.advantages[3] == Approx(0.5 / std));
  // Less their group's mean: 0.5, -0.5, 0.5, -0.5, whose mean is 0 and std sqrt(4 * 0.25 / 3).
  const auto baseline = advantages_with("reinforce_plus_plus_baseline", rewards, 2);
  const double own = 0.5 / (std::sqrt(1.0 / 3) + 1e-4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(baseline.advantages[i] == Approx(i % 2 == 0 ? own : -own));
}

TEST_CASE("a group that agrees has signal where the baseline is the batch's") {
  const auto result = advantages_with("reinforce_plus_plus", {1.0, 1.0, 0.0, 0.0}, 2);
  CHECK(result.has_signal == std::vector<bool>{true, true});
  CHECK(result.rewards_differ == std::vector<bool>{false, false});
}

TEST_CASE("a penalty counts after the reward is clipped") {
  // 5 is clipped to 1 and loses 0.5; 0 stays. Leave one out: 0.5 - 0 and 0 - 0.5.
  AdvantageSettings settings;
  settings.advantage_estimator = "rloo";
  settings.reward_clip_range = {-1, 1};
  const std::vector<double> penalties{0.5, 0};
  const auto result = compute_advantages(settings, {{5.0, 0.0}}, penalties, 2);
  CHECK(result.advantages == std::vector<double>{0.5, -0.5});
  CHECK((result.rewards == OptionalRewards{5.0, 0.0}));
}

TEST_CASE("unknown ways to an advantage are refused with the known ones") {
  CHECK_THROWS_WITH(advantages_with("gae", {1.0, 0.0}, 2), Catch::Contains("gae") && Catch::Contains("rloo"));
  CHECK_THROWS_WITH(scaled("all", {1.0, 0.0}, 2), Catch::Contains("all") && Catch::Contains("batch"));
}

}  // namespace ferro
