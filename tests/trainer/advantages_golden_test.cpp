#include <cmath>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "tests/trainer/golden_tensors.h"
#include "trainer/advantages.h"
#include "trainer/rollout_correction.h"
#include "trainer/rollout_metrics.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::Closest;

// The first `length` log-probs of a padded row; null is NaN.
template <class Real>
std::vector<Real> logps_of(const json& row, std::size_t length) {
  std::vector<Real> values;
  for (std::size_t t = 0; t < length; ++t)
    values.push_back(row.at(t).is_null() ? std::numeric_limits<Real>::quiet_NaN() : row.at(t).get<Real>());
  return values;
}

// One generation of TRL's trainer, as the trainer here sees it.
struct AdvantageCase {
  const json& stored;
  AdvantageSettings settings;
  std::int64_t num_generations;
  std::vector<std::string> names;
  std::vector<OptionalRewards> values;
  std::vector<std::vector<std::int32_t>> answers;
  std::vector<std::int64_t> lengths, offsets{0};
  std::vector<std::uint8_t> terminated, trained;

  AdvantageCase(const json& one, const std::vector<std::int32_t>& stop_ids)
      : stored(one), num_generations(one.at("num_generations")) {
    for (const json& function : one.at("rewards")) {
      names.push_back(fmt::format("r{}", names.size()));
      values.emplace_back();
      for (const json& value : function)
        values.back().push_back(value.is_null() ? std::nullopt : std::optional<double>(value.get<double>()));
    }
    settings.scale_rewards = one.value("scale_rewards", settings.scale_rewards);
    settings.multi_objective_aggregation =
        one.value("multi_objective_aggregation", settings.multi_objective_aggregation);
    settings.reward_weights = one.value("reward_weights", std::vector<double>{});
    settings.reward_clip_range = one.value("reward_clip_range", std::vector<double>{});
    settings.normalize_advantages = one.value("normalize_advantages", false);
    if (one.at("trainer") == "RLOOTrainer") settings.advantage_estimator = "rloo";
    const bool mask_truncated = one.value("mask_truncated_completions", false);
    for (const json& ids : one.at("completion_ids")) {
      answers.push_back(ids.get<std::vector<std::int32_t>>());
      lengths.push_back(static_cast<std::int64_t>(ids.size()));
      offsets.push_back(offsets.back() + lengths.back());
      terminated.push_back(ended_by_itself(answers.back(), stop_ids) ? 1 : 0);
      trained.push_back(terminated.back() != 0 || !mask_truncated ? 1 : 0);
    }
  }
  double beta() const { return stored.at("config").value("beta", 0.0); }

  std::vector<float> answer_logps(const char* tensor, std::size_t i) const {
    return logps_of<float>(stored.at(tensor).at(i), answers[i].size());
  }
  // Per answer, and the mean over tokens.
  std::pair<std::vector<double>, double> divergences() const {
    std::vector<double> sums;
    double all = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      sums.push_back(answer_kl(answer_logps("old_logps", i), answer_logps("ref_logps", i)));
      all += sums.back();
    }
    return {sums, all / static_cast<double>(offsets.back())};
  }
  RolloutCorrectionConfig correction() const {
    const json& c = stored.at("config");
    RolloutCorrectionConfig config;
    config.vllm_importance_sampling_mode = c.at("vllm_importance_sampling_mode");
    for (const auto& [name, member] :
         {std::pair{"vllm_importance_sampling_clip_max",
                    &RolloutCorrectionConfig::vllm_importance_sampling_clip_max},
          std::pair{"vllm_importance_sampling_clip_min",
                    &RolloutCorrectionConfig::vllm_importance_sampling_clip_min}})
      config.*member = !c.contains(name) || c.at(name).is_null() ? 0.0 : c.at(name).get<double>();
    return config;
  }
};

void check_masks(const AdvantageCase& c) {
  const json& masks = c.stored.at("expected").at("completion_mask");
  std::int64_t tokens = 0;
  std::size_t different = 0;
  for (std::size_t i = 0; i < c.answers.size(); ++i) {
    std::vector<int> mask(masks.at(i).size(), 0);
    std::fill_n(mask.begin(), c.lengths[i], c.trained[i]);
    const bool same = mask == masks.at(i).get<std::vector<int>>();
    CHECK(same);
    different += same ? 0 : 1;
    tokens += c.trained[i] != 0 ? c.lengths[i] : 0;
  }
  if (c.stored.at("expected").contains("num_items_in_batch"))
    CHECK(tokens == c.stored.at("expected").at("num_items_in_batch"));
  testing::report_equality("completion masks " + c.stored.at("name").get<std::string>(), c.answers.size(),
                           different);
}

// Returns the metrics of it.
std::map<std::string, double> check_correction(const AdvantageCase& c, const json& tolerance,
                                               Closest& closest) {
  std::vector<double> old_logps, sampled;
  for (std::size_t i = 0; i < c.answers.size(); ++i) {
    for (const double value : logps_of<double>(c.stored.at("old_logps").at(i), c.answers[i].size()))
      old_logps.push_back(value);
    for (const double value : logps_of<double>(c.stored.at("sampling_logps").at(i), c.answers[i].size()))
      sampled.push_back(value);
  }
  const auto got = rollout_correction<double>(c.correction(), c.offsets, old_logps, sampled, {});
  const json& stored = c.stored.at("expected").at("importance_sampling_ratio");
  for (std::size_t i = 0; i < c.answers.size(); ++i) {
    const std::size_t begin = static_cast<std::size_t>(c.offsets[i]);
    for (std::size_t t = 0; t < (got.sequence.empty() ? c.answers[i].size() : 1); ++t) {
      const double expected = stored.at(i).at(t);
      CHECK(closest.add("importance_sampling_ratio",
                        got.sequence.empty() ? got.token[begin + t] : got.sequence[i], expected, tolerance));
    }
  }
  return metrics_of(got.sums);
}

}  // namespace

TEST_CASE("advantages, masks, corrections and rollout metrics agree with TRL") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/advantages");
  const json section = testing::read_json(*golden / "manifest.json").at("grpo").at("advantages");
  const json file = testing::read_json(*golden / section.at("file").get<std::string>());
  const json& tolerances = section.at("tolerances");
  const std::vector<std::int32_t> stop_ids{section.at("eos_token_id"), section.at("pad_token_id")};
  std::size_t checked = 0;
  for (const json& one : file.at("cases")) {
    INFO(one.at("name").get<std::string>());
    const AdvantageCase c(one, stop_ids);
    const json& expected = one.at("expected");
    check_masks(c);
    std::map<std::string, double> metrics;
    Closest closest;
    if (one.contains("sampling_logps"))
      metrics = check_correction(c, tolerances.at("importance_sampling_ratio"), closest);
    std::vector<double> penalties;
    if (c.beta() != 0) {
      std::tie(penalties, metrics["kl"]) = c.divergences();
      for (double& penalty : penalties) penalty *= c.beta();
    }
    const AdvantageResult result = compute_advantages(c.settings, c.values, penalties, c.num_generations);
    const auto wanted = expected.at("advantages").get<std::vector<double>>();
    REQUIRE(wanted.size() == result.advantages.size());
    double worst = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      worst = testing::worse_of(worst, std::abs(wanted[i] - result.advantages[i]));
    CHECK(worst <= tolerances.at("advantages").at("abs").get<double>());
    testing::report_difference("advantages " + one.at("name").get<std::string>(), worst,
                               tolerances.at("advantages").at("abs"));

    metrics.merge(
        reward_metrics(c.names, c.values, result.rewards, result.group_std, c.settings.scale_rewards));
    metrics.merge(completion_metrics(c.lengths, c.terminated));
    for (const auto& [name, stored] : expected.at("metrics").items()) {
      if (name == "num_tokens") continue;  // Counts prompts, which the file does not hold.
      INFO(name);
      REQUIRE(metrics.contains(name));
      if (stored.is_null()) {
        CHECK(std::isnan(metrics.at(name)));
      } else {
        const double value = stored;
        CHECK(closest.add(name, metrics.at(name), value, tolerances.at("metrics")));
      }
    }
    closest.report("rollout metrics " + one.at("name").get<std::string>());
    ++checked;
  }
  CHECK(checked == section.at("cases").size());
}

}  // namespace ferro
