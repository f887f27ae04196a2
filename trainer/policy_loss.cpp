#include "trainer/policy_loss.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/error.h"
#include "trainer/metric_sums.h"

namespace ferro {
namespace {

// What one token costs before averaging, and how costs are averaged. m: the mask, r: the importance ratio.
enum class TokenLoss {
  kClip,  // -min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
};
enum class Average {
  kSequenceMean,      // (1 / sequences of the step) sum_i [sum_t m l / max(sum_t m, 1)]
  kMicroBatchTokens,  // sum m l / max(sum m, 1) of this micro-batch, over the number of micro-batches
  kFixedLength,       // sum m l / (sequences of the step * max_completion_length)
  kStepTokens,        // sum m l / max(trained tokens of the step, 1)
};
struct LossType {
  std::string_view name;
  TokenLoss token_loss;
  Average average;
};
constexpr std::array<LossType, 4> kLossTypes{{
    {"grpo", TokenLoss::kClip, Average::kSequenceMean},
    {"bnpo", TokenLoss::kClip, Average::kMicroBatchTokens},
    {"dr_grpo", TokenLoss::kClip, Average::kFixedLength},
    {"dapo", TokenLoss::kClip, Average::kStepTokens},
}};

const LossType& find_loss_type(const std::string& name) {
  for (const LossType& type : kLossTypes)
    if (type.name == name) return type;
  std::string names;
  for (const LossType& type : kLossTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  fail(ErrorCode::kConfig, "loss_type is `{}`; it can be {}", name, names);
}

struct Term {
  double value = 0, grad_ratio = 0;
};

// An advantage of 0 costs nothing, also where the ratio overflows.
Term token_term(TokenLoss kind, double ratio, double advantage, const PolicyLossConfig& config) {
  Term term;
  switch (kind) {
    case TokenLoss::kClip: {
      if (advantage == 0) break;
      const double low = 1 - config.epsilon, high = 1 + config.epsilon_high;
      const double clipped = std::clamp(ratio, low, high);
      if (ratio * advantage <= clipped * advantage) {
        term = {-ratio * advantage, -advantage};
      } else {
        term.value = -clipped * advantage;
      }
      break;
    }
  }
  return term;
}

// k3: exp(d) - d - 1 with d = ref - logp; never negative, unbiased on-policy. Source: J. Schulman,
// "Approximating KL divergence" (2020).
struct Kl {
  double value = 0, grad_logp = 0;
};
Kl k3(double ref, double logp) {
  const double difference = ref - logp;
  return {std::expm1(difference) - difference, -std::expm1(difference)};
}

template <class Real>
class Computation {
 public:
  Computation(const PolicyLossConfig& config, const PolicyLossInputs<Real>& in,
              const LossNormaliser& normaliser)
      : config_(config),
        in_(in),
        normaliser_(normaliser),
        type_(find_loss_type(config.loss_type)),
        sequence_level_(config.importance_sampling_level == "sequence") {
    check_sizes();
    result_.grad_logps.resize(in.logps.size(), Real{0});
    for (std::size_t t = 0; t < in.logps.size(); ++t) tokens_ += trained(t) ? 1 : 0;
  }

  PolicyLossResult<Real> run() {
    for (std::size_t i = 0; i + 1 < in_.offsets.size(); ++i) add_sequence(i);
    return std::move(result_);
  }

 private:
  bool trained(std::size_t t) const { return in_.mask.empty() || in_.mask[t] != 0; }

  void check_sizes() const {
    const std::size_t n = in_.logps.size();
    const auto fits = [n](std::size_t size) { return size == 0 || size == n; };
    FERRO_CHECK(!in_.offsets.empty() && in_.offsets.front() == 0 &&
                    in_.offsets.back() == static_cast<std::int64_t>(n),
                "{} offsets for {} tokens", in_.offsets.size(), n);
    FERRO_CHECK(in_.advantages.size() + 1 == in_.offsets.size(), "{} advantages for {} sequences",
                in_.advantages.size(), in_.offsets.size() - 1);
    FERRO_CHECK(fits(in_.old_logps.size()) && fits(in_.ref_logps.size()) && fits(in_.entropies.size()) &&
                    fits(in_.mask.size()),
                "{} tokens; old {}, reference {}, entropies {}, mask {}", n, in_.old_logps.size(),
                in_.ref_logps.size(), in_.entropies.size(), in_.mask.size());
    FERRO_CHECK(config_.beta == 0 || n == 0 || !in_.ref_logps.empty(), "beta {} without reference log-probs",
                config_.beta);
  }

  // What a token's cost counts in the loss.
  double weight_of(double length) const {
    const auto sequences = static_cast<double>(std::max<std::int64_t>(normaliser_.sequences_in_step, 1));
    switch (type_.average) {
      case Average::kSequenceMean:
        return 1 / (sequences * std::max(length, 1.0));
      case Average::kMicroBatchTokens:
        return 1 / (std::max(tokens_, 1.0) *
                    static_cast<double>(std::max<std::int64_t>(normaliser_.micro_batches, 1)));
      case Average::kFixedLength:
        return 1 / (sequences * static_cast<double>(config_.max_completion_length));
      case Average::kStepTokens:
        return 1 / static_cast<double>(std::max<std::int64_t>(normaliser_.tokens_in_step, 1));
    }
    return 0;
  }

  double log_ratio(std::size_t t) const {
    return in_.old_logps.empty() ? 0.0
                                 : static_cast<double>(in_.logps[t]) - static_cast<double>(in_.old_logps[t]);
  }

  void add_sequence(std::size_t i) {
    const auto begin = static_cast<std::size_t>(in_.offsets[i]),
               end = static_cast<std::size_t>(in_.offsets[i + 1]);
    double length = 0, log_ratio_sum = 0;
    for (std::size_t t = begin; t < end; ++t) {
      if (!trained(t)) continue;
      length += 1;
      log_ratio_sum += log_ratio(t);
    }
    const double sequence_ratio = std::exp(log_ratio_sum / std::max(length, 1.0));
    const double weight = weight_of(length), advantage = static_cast<double>(in_.advantages[i]);
    double grad_sequence_ratio = 0;
    Clipped clipped;
    for (std::size_t t = begin; t < end; ++t) {
      if (!trained(t)) continue;
      const double ratio = sequence_level_ ? sequence_ratio : std::exp(log_ratio(t));
      const double grad_ratio = add_token(t, ratio, advantage, weight);
      if (sequence_level_) {
        grad_sequence_ratio += grad_ratio;
      } else if (grad_ratio != 0) {
        result_.grad_logps[t] += static_cast<Real>(grad_ratio * ratio);
      }
      clipped.low += ratio < 1 - config_.epsilon && advantage < 0 ? 1 : 0;
      clipped.high += ratio > 1 + config_.epsilon_high && advantage > 0 ? 1 : 0;
    }
    if (grad_sequence_ratio != 0) {
      for (std::size_t t = begin; t < end; ++t)
        if (trained(t))
          result_.grad_logps[t] += static_cast<Real>(grad_sequence_ratio * sequence_ratio / length);
    }
    count_clipped(clipped, length);
  }

  // Adds the token's cost and its gradient except what goes through the ratio, which it returns (weight
  // included).
  double add_token(std::size_t t, double ratio, double advantage, double weight) {
    const Term term = token_term(type_.token_loss, ratio, advantage, config_);
    double value = term.value, grad_ratio = term.grad_ratio;
    if (!in_.ref_logps.empty()) {
      Kl kl = k3(static_cast<double>(in_.ref_logps[t]), static_cast<double>(in_.logps[t]));
      if (config_.use_bias_correction_kl) {
        grad_ratio += config_.beta * kl.value;
        kl = {kl.value * ratio, kl.grad_logp * ratio};
      }
      if (config_.beta != 0) {
        value += config_.beta * kl.value;
        result_.grad_logps[t] += static_cast<Real>(weight * config_.beta * kl.grad_logp);
      }
      add_to_mean(result_.sums, "kl", kl.value, 1);
    }
    if (!in_.entropies.empty())
      add_to_mean(result_.sums, "entropy", static_cast<double>(in_.entropies[t]), 1);
    result_.loss += weight * value;
    return weight * grad_ratio;
  }

  // On sequence-level ratios the share is over sequences, also those without a trained token.
  struct Clipped {
    double low = 0, high = 0;
  };
  void count_clipped(const Clipped& clipped, double length) {
    const double count = sequence_level_ ? 1 : length, per_token = std::max(length, 1.0);
    const double low = sequence_level_ ? clipped.low / per_token : clipped.low;
    const double high = sequence_level_ ? clipped.high / per_token : clipped.high;
    add_to_mean(result_.sums, "clip_ratio/low_mean", low, count);
    add_to_mean(result_.sums, "clip_ratio/high_mean", high, count);
    add_to_mean(result_.sums, "clip_ratio/region_mean", low + high, count);
    if (length == 0) return;
    keep_least(result_.sums, "clip_ratio/low_min", clipped.low / per_token);
    keep_largest(result_.sums, "clip_ratio/high_max", clipped.high / per_token);
  }

  const PolicyLossConfig& config_;
  const PolicyLossInputs<Real>& in_;
  const LossNormaliser& normaliser_;
  const LossType& type_;
  const bool sequence_level_;
  double tokens_ = 0;
  PolicyLossResult<Real> result_;
};

}  // namespace

template <class Real>
PolicyLossResult<Real> policy_loss(const PolicyLossConfig& config, const PolicyLossInputs<Real>& inputs,
                                   const LossNormaliser& normaliser) {
  return Computation<Real>(config, inputs, normaliser).run();
}

template PolicyLossResult<float> policy_loss(const PolicyLossConfig&, const PolicyLossInputs<float>&,
                                             const LossNormaliser&);
template PolicyLossResult<double> policy_loss(const PolicyLossConfig&, const PolicyLossInputs<double>&,
                                              const LossNormaliser&);

}  // namespace ferro
