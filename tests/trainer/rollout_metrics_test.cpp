#include "trainer/rollout_metrics.h"

#include <cmath>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "tests/golden.h"
#include "trainer/advantages.h"

namespace ferro {
namespace {

using nlohmann::json;

std::map<std::string, double> metrics_of_case(const json& one, std::int64_t eos) {
  std::vector<std::vector<std::optional<double>>> values;
  std::vector<std::string> names;
  for (const json& function : one.at("rewards")) {
    names.push_back(fmt::format("r{}", names.size()));
    values.emplace_back();
    for (const json& value : function)
      values.back().push_back(value.is_null() ? std::nullopt : std::optional<double>(value.get<double>()));
  }
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> terminated;
  for (const json& ids : one.at("completion_ids")) {
    lengths.push_back(static_cast<std::int64_t>(ids.size()));
    terminated.push_back(!ids.empty() && ids.back() == eos ? 1 : 0);
  }
  const auto scale = one.value("scale_rewards", std::string("group"));
  const auto rewards = combine_rewards(values, one.value("reward_weights", std::vector<double>{}));
  const auto advantages = group_advantages(rewards, one.at("num_generations"), scale);
  auto metrics = reward_metrics(names, values, rewards, advantages.group_std, scale);
  metrics.merge(completion_metrics(lengths, terminated));
  return metrics;
}

}  // namespace

TEST_CASE("reward and completion metrics agree with TRL") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS(golden, "the golden folder");
  const json section = testing::read_json(*golden / "manifest.json").at("grpo").at("advantages");
  const json file = testing::read_json(*golden / section.at("file").get<std::string>());
  const json& tolerance = section.at("tolerances").at("metrics");
  std::int64_t compared = 0;
  for (const json& one : file.at("cases")) {
    if (one.at("trainer") != "GRPOTrainer" || one.contains("multi_objective_aggregation") ||
        one.value("mask_truncated_completions", false))
      continue;
    INFO(one.at("name").get<std::string>());
    const auto got = metrics_of_case(one, section.at("eos_token_id"));
    for (const auto& [name, stored] : one.at("expected").at("metrics").items()) {
      const auto at = got.find(name);
      if (at == got.end()) continue;  // num_tokens and the rollout corrections, which come from elsewhere
      INFO(name);
      if (stored.is_null()) {
        CHECK(std::isnan(at->second));
      } else {
        const double value = stored;
        CHECK(std::abs(at->second - value) <=
              tolerance.at("abs").get<double>() + tolerance.at("rel").get<double>() * std::abs(value));
      }
      ++compared;
    }
  }
  std::cout << "golden rollout metrics: " << compared << " values compared\n";
  CHECK(compared > 0);
}

}  // namespace ferro
