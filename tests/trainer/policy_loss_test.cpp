#include "trainer/policy_loss.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "trainer/metric_sums.h"

namespace ferro {
namespace {

// Ten answers of 0 to 4 tokens with made-up values, away from the corners of the clip.
struct Answers {
  std::vector<std::int64_t> offsets{0, 2, 2, 5, 9, 10, 12, 15, 16, 19, 21};
  std::vector<double> logps, old_logps, ref_logps, entropies, advantages, correction;
  std::vector<std::uint8_t> mask;

  Answers() {
    for (int t = 0; t < 21; ++t) {
      const double x = t;
      logps.push_back(-1.5 + std::sin(1.7 * x));
      old_logps.push_back(logps.back() + 0.35 * std::sin(2.3 * x + 1));
      ref_logps.push_back(logps.back() + 0.6 * std::cos(1.1 * x));
      entropies.push_back(0.5 + 0.4 * std::sin(3.1 * x));
      correction.push_back(0.8 + 0.3 * std::sin(0.7 * x));
      mask.push_back(t == 3 || t == 12 ? 0 : 1);
    }
    for (int i = 0; i < 10; ++i) advantages.push_back(1.3 * std::cos(2.0 * i + 0.5));
  }
  double trained() const { return 19; }
  PolicyLossInputs<double> all() const { return part(0, 10); }
  // Answers [first, last) alone; their offsets in `at`.
  PolicyLossInputs<double> part(std::size_t first, std::size_t last) const {
    const auto begin = static_cast<std::size_t>(offsets[first]),
               size = static_cast<std::size_t>(offsets[last]) - begin;
    at.clear();
    for (std::size_t i = first; i <= last; ++i) at.push_back(offsets[i] - offsets[first]);
    PolicyLossInputs<double> in;
    in.offsets = at;
    in.logps = std::span(logps).subspan(begin, size);
    in.old_logps = std::span(old_logps).subspan(begin, size);
    in.ref_logps = std::span(ref_logps).subspan(begin, size);
    in.entropies = std::span(entropies).subspan(begin, size);
    in.token_correction = std::span(correction).subspan(begin, size);
    in.mask = std::span(mask).subspan(begin, size);
    in.advantages = std::span(advantages).subspan(first, last - first);
    return in;
  }

 private:
  mutable std::vector<std::int64_t> at;
};

// Central differences of the loss in every log-prob and entropy.
void check_slopes(const PolicyLossConfig& config, Answers answers, const LossNormaliser& normaliser) {
  const auto result = policy_loss(config, answers.all(), normaliser);
  const auto slope_at = [&](double& value) {
    constexpr double kStep = 1e-6;
    const double kept = value;
    value = kept + kStep;
    const double above = policy_loss(config, answers.all(), normaliser).loss;
    value = kept - kStep;
    const double below = policy_loss(config, answers.all(), normaliser).loss;
    value = kept;
    return (above - below) / (2 * kStep);
  };
  for (std::size_t t = 0; t < answers.logps.size(); ++t) {
    CHECK(result.grad_logps[t] == Approx(slope_at(answers.logps[t])).epsilon(1e-6).margin(1e-8));
    if (!result.grad_entropies.empty())
      CHECK(result.grad_entropies[t] == Approx(slope_at(answers.entropies[t])).epsilon(1e-6).margin(1e-8));
  }
}

}  // namespace

TEST_CASE("1, 2 and 5 micro-batches add up to the same loss, gradient and metrics") {
  const Answers answers;
  for (const char* type : {"grpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo", "rloo"}) {
    for (const std::size_t parts : {2, 5}) {
      INFO(type << " in " << parts);
      PolicyLossConfig config;
      config.loss_type = type;
      config.beta = 0.04;
      const LossNormaliser normaliser{
          .sequences_in_step = 10, .tokens_in_step = answers.trained(), .micro_batches = 1};
      const auto whole = policy_loss(config, answers.all(), normaliser);
      double loss = 0;
      std::vector<double> gradient;
      MetricSums sums;
      for (std::size_t p = 0; p < parts; ++p) {
        const auto part = policy_loss(config, answers.part(p * 10 / parts, (p + 1) * 10 / parts), normaliser);
        loss += part.loss;
        gradient.insert(gradient.end(), part.grad_logps.begin(), part.grad_logps.end());
        merge_sums(sums, part.sums);
      }
      CHECK(loss == Approx(whole.loss).epsilon(1e-13));
      CHECK(gradient == whole.grad_logps);
      for (const auto& [name, value] : whole.sums) CHECK(sums.at(name) == Approx(value).epsilon(1e-13));
    }
  }
}

TEST_CASE("a gradient is the slope of its loss") {
  const LossNormaliser normaliser{.sequences_in_step = 10, .tokens_in_step = 19, .micro_batches = 2};
  for (const char* type : {"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "rloo"}) {
    for (const char* level : {"token", "sequence"}) {
      for (const bool bias_correction : {false, true}) {
        for (const char* estimator : {"k1", "k2", "k3"}) {
          INFO(type << " " << level << " " << bias_correction << " " << estimator);
          PolicyLossConfig config;
          config.loss_type = type;
          config.importance_sampling_level = level;
          config.beta = 0.1;
          config.kl_estimator = estimator;
          config.use_bias_correction_kl = bias_correction;
          config.delta = 1.35;
          config.entropy_coef = 0.02;
          check_slopes(config, {}, normaliser);
        }
      }
    }
  }
}

TEST_CASE("estimates of the divergence have their definitions' values") {
  // d = log ref - log pi = 0.5: k1 = -0.5, k2 = 0.125, k3 = e^0.5 - 1.5.
  const std::vector<std::int64_t> offsets{0, 1};
  const std::vector<double> logps{-1.5}, ref{-1.0}, advantages{0};
  PolicyLossInputs<double> in;
  in.offsets = offsets;
  in.logps = logps;
  in.ref_logps = ref;
  in.advantages = advantages;
  const std::vector<std::pair<const char*, double>> expected{
      {"k1", -0.5}, {"k2", 0.125}, {"k3", std::exp(0.5) - 1.5}};
  for (const auto& [name, value] : expected) {
    PolicyLossConfig config;
    config.beta = 2;
    config.kl_estimator = name;
    const auto result = policy_loss(config, in, {.sequences_in_step = 1});
    CHECK(result.loss == Approx(2 * value));
    CHECK(result.sums.at("kl/sum") == Approx(value));
  }
}

TEST_CASE("an answer is off-policy when it is bad and its log-prob fell") {
  // Mean of (sampling - logp) is 0.4 in both answers; only the one with a negative advantage loses its term.
  const std::vector<std::int64_t> offsets{0, 2, 4};
  const std::vector<double> logps{-1, -1, -1, -1}, old_logps{-0.5, -0.7, -0.5, -0.7}, advantages{-1, 1};
  PolicyLossInputs<double> in;
  in.offsets = offsets;
  in.logps = logps;
  in.old_logps = old_logps;
  in.advantages = advantages;
  PolicyLossConfig config;
  config.epsilon = 0.9;  // The ratios, exp(-0.5) and exp(-0.3), are not clipped.
  config.off_policy_mask_threshold = 0.39;
  const auto masked = policy_loss(config, in, {.sequences_in_step = 2});
  CHECK(masked.grad_logps[0] == 0);
  CHECK(masked.grad_logps[2] != 0);
  config.off_policy_mask_threshold = 0.41;
  CHECK(policy_loss(config, in, {.sequences_in_step = 2}).grad_logps[0] != 0);
}

TEST_CASE("an advantage of zero stays harmless where the ratio overflows") {
  const std::vector<std::int64_t> offsets{0, 1};
  const std::vector<float> logps{0}, old_logps{-2000}, advantages{0};
  PolicyLossInputs<float> in;
  in.offsets = offsets;
  in.logps = logps;
  in.old_logps = old_logps;
  in.advantages = advantages;
  const auto result = policy_loss<float>({}, in, {.sequences_in_step = 1});
  CHECK(result.loss == 0);
  CHECK(result.grad_logps[0] == 0);
}

TEST_CASE("an unknown loss type is refused with the known ones") {
  PolicyLossConfig config;
  config.loss_type = "grop";
  const std::vector<std::int64_t> offsets{0};
  PolicyLossInputs<float> in;
  in.offsets = offsets;
  CHECK_THROWS_WITH(policy_loss<float>(config, in, {}),
                    Catch::Contains("grop") && Catch::Contains("dr_grpo"));
}

}  // namespace ferro
