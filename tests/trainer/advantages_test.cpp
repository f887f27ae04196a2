#include "trainer/advantages.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using nlohmann::json;
using Rewards = std::vector<std::optional<double>>;

std::vector<Rewards> rewards_of(const json& stored) {
  std::vector<Rewards> all;
  for (const json& function : stored) {
    Rewards values;
    for (const json& value : function)
      values.push_back(value.is_null() ? std::nullopt : std::optional<double>(value.get<double>()));
    all.push_back(std::move(values));
  }
  return all;
}

}  // namespace

TEST_CASE("advantages agree with TRL in double") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS(golden, "the golden folder");
  const json section = testing::read_json(*golden / "manifest.json").at("grpo").at("advantages");
  const json file = testing::read_json(*golden / section.at("file").get<std::string>());
  const double tolerance = section.at("tolerances").at("advantages").at("abs");
  std::int64_t checked = 0, others = 0;
  double worst = 0;
  for (const json& one : file.at("cases")) {
    if (one.at("trainer") != "GRPOTrainer" || one.contains("multi_objective_aggregation")) {
      ++others;
      continue;
    }
    INFO(one.at("name").get<std::string>());
    const auto weights = one.value("reward_weights", std::vector<double>{});
    const Rewards rewards = combine_rewards(rewards_of(one.at("rewards")), weights);
    const auto result = group_advantages(rewards, one.at("num_generations"),
                                         one.value("scale_rewards", std::string("group")));
    const auto expected = one.at("expected").at("advantages").get<std::vector<double>>();
    REQUIRE(expected.size() == result.advantages.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      worst = std::max(worst, std::abs(expected[i] - result.advantages[i]));
    CHECK(worst <= tolerance);
    ++checked;
  }
  std::cout << "golden advantages: " << checked << " cases checked, " << others
            << " of modes not supported\n";
  testing::report_difference("advantages", worst, tolerance);
  CHECK(checked > 0);
}

TEST_CASE("a group whose rewards agree carries no signal") {
  const Rewards rewards{0.3, 0.3, 0.3, 0.0, 1.0, 0.0};
  for (const char* scale : {"group", "batch", "none"}) {
    const auto result = group_advantages(rewards, 3, scale);
    CHECK(result.has_signal == std::vector<bool>{false, true});
    CHECK(result.advantages[0] == 0.0);
    CHECK(result.group_std[0] == 0.0);
  }
}

TEST_CASE("an answer without a reward gets no advantage and leaves the others' mean alone") {
  // Mean of {0, 1} is .5; std with n - 1 is sqrt(.5).
  const Rewards rewards{0.0, std::nullopt, 1.0};
  const auto result = group_advantages(rewards, 3, "group");
  CHECK(result.advantages[1] == 0.0);
  CHECK(result.advantages[2] == Approx(0.5 / (std::sqrt(0.5) + 1e-4)));
  const auto alone = group_advantages(Rewards{std::nullopt, 1.0}, 2, "group");
  CHECK(std::isnan(alone.group_std[0]));
  CHECK(alone.has_signal == std::vector<bool>{false});
}

TEST_CASE("functions without a value count nothing, and all without give no reward") {
  const std::vector<Rewards> values{{1.0, std::nullopt, std::nullopt}, {0.5, 0.5, std::nullopt}};
  const std::vector<double> weights{2.0, -1.0};
  CHECK((combine_rewards(values, weights) == Rewards{1.5, -0.5, std::nullopt}));
  CHECK((combine_rewards(values, {}) == Rewards{1.5, 0.5, std::nullopt}));
}

}  // namespace ferro
