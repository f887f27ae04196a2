#include "trainer/policy_loss.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {

TEST_CASE("the same tokens in one micro-batch or in two add up to the same loss and gradient") {
  // Three answers of 2, 0 and 3 tokens; split after the first.
  const std::vector<std::int64_t> offsets{0, 2, 2, 5};
  const std::vector<double> logps{-1, -2, -0.5, -1.5, -3}, old_logps{-1.2, -1.9, -0.9, -1.4, -3},
      ref{-1, -1, -1, -1, -1};
  const std::vector<double> advantages{1.5, -2, 0.5};
  for (const char* type : {"grpo", "dr_grpo", "dapo"}) {
    INFO(type);
    PolicyLossConfig config;
    config.loss_type = type;
    config.beta = 0.04;
    const LossNormaliser normaliser{.sequences_in_step = 3, .tokens_in_step = 5, .micro_batches = 2};
    PolicyLossInputs<double> whole;
    whole.offsets = offsets;
    whole.logps = logps;
    whole.old_logps = old_logps;
    whole.ref_logps = ref;
    whole.advantages = advantages;
    const auto all = policy_loss(config, whole, normaliser);

    const std::vector<std::int64_t> first{0, 2}, rest{0, 0, 3};
    PolicyLossInputs<double> a, b;
    a.offsets = first;
    a.logps = std::span(logps).first(2);
    a.old_logps = std::span(old_logps).first(2);
    a.ref_logps = std::span(ref).first(2);
    a.advantages = std::span(advantages).first(1);
    b.offsets = rest;
    b.logps = std::span(logps).last(3);
    b.old_logps = std::span(old_logps).last(3);
    b.ref_logps = std::span(ref).last(3);
    b.advantages = std::span(advantages).last(2);
    const auto part_a = policy_loss(config, a, normaliser), part_b = policy_loss(config, b, normaliser);
    CHECK(part_a.loss + part_b.loss == Approx(all.loss).epsilon(1e-14));
    for (std::size_t t = 0; t < 2; ++t) CHECK(part_a.grad_logps[t] == all.grad_logps[t]);
    for (std::size_t t = 0; t < 3; ++t) CHECK(part_b.grad_logps[t] == all.grad_logps[t + 2]);
    CHECK(part_a.sums.at("kl/sum") + part_b.sums.at("kl/sum") == Approx(all.sums.at("kl/sum")));
  }
}

TEST_CASE("a gradient is the slope of its loss") {
  // Central differences of the loss, at ratios away from the clip's corners.
  const std::vector<std::int64_t> offsets{0, 3, 5};
  const std::vector<double> logps{-1, -2, -0.5, -1.5, -3}, old_logps{-1.1, -1.5, -0.55, -1.4, -3.05},
      ref{-1.3, -1, -1, -1.6, -2};
  const std::vector<double> advantages{1.5, -2};
  for (const char* level : {"token", "sequence"}) {
    for (const bool bias_correction : {false, true}) {
      INFO(level << " " << bias_correction);
      PolicyLossConfig config;
      config.importance_sampling_level = level;
      config.beta = 0.1;
      config.use_bias_correction_kl = bias_correction;
      const auto at = [&](const std::vector<double>& values) {
        PolicyLossInputs<double> in;
        in.offsets = offsets;
        in.logps = values;
        in.old_logps = old_logps;
        in.ref_logps = ref;
        in.advantages = advantages;
        return policy_loss(config, in, {.sequences_in_step = 2});
      };
      const auto result = at(logps);
      for (std::size_t t = 0; t < logps.size(); ++t) {
        constexpr double kStep = 1e-6;
        auto above = logps, below = logps;
        above[t] += kStep;
        below[t] -= kStep;
        CHECK(result.grad_logps[t] ==
              Approx((at(above).loss - at(below).loss) / (2 * kStep)).epsilon(1e-6).margin(1e-9));
      }
    }
  }
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
