#include "trainer/policy_loss.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "trainer/metric_sums.h"
#include "trainer/policy_loss_masks.h"
#include "trainer/policy_loss_terms.h"

namespace ferro {
namespace {

// One answer, while its tokens are added.
struct Answer {
  std::size_t index = 0, begin = 0, end = 0;
  double length = 0;  // Trained tokens.
  double advantage = 0;
  double sequence_ratio = 1;             // Unless ratios are per token.
  double phi = 0;                        // vespo's weight.
  double keep = 1;                       // 0: off-policy, no policy term.
  double weight = 0;                     // What a token's cost counts in the loss.
  double low = 0, high = 0, capped = 0;  // Clipped tokens.
};

struct TokenSum {
  double sum = 0, count = 0;
  void add(double value) {
    sum += value;
    count += 1;
  }
};

template <class Real>
class Computation {
 public:
  Computation(const PolicyLossConfig& config, const PolicyLossInputs<Real>& in,
              const LossNormaliser& normaliser)
      : config_(config),
        in_(in),
        normaliser_(normaliser),
        type_(find_loss_type(config.loss_type)),
        ratio_(ratio_of(type_, config)),
        estimator_(find_kl_estimator(config.kl_estimator)) {
    check_policy_inputs(config, in);
    result_.grad_logps.resize(in.logps.size(), Real{0});
    for (std::size_t t = 0; t < in.logps.size(); ++t) tokens_ += trained(t) ? 1 : 0;
    least_entropy_ = least_kept_entropy(in, config.top_entropy_quantile);
  }

  PolicyLossResult<Real> run() {
    for (std::size_t i = 0; i + 1 < in_.offsets.size(); ++i) add_sequence(i);
    if (kl_.count > 0) add_to_mean(result_.sums, "kl", kl_.sum, kl_.count);
    if (entropy_.count > 0) add_to_mean(result_.sums, "entropy", entropy_.sum, entropy_.count);
    if (config_.entropy_coef != 0) take_off_entropy();
    return std::move(result_);
  }

 private:
  bool trained(std::size_t t) const { return in_.mask.empty() || in_.mask[t] != 0; }
  bool kept(std::size_t t) const {
    return !least_entropy_ || static_cast<double>(in_.entropies[t]) >= *least_entropy_;
  }
  double micro_batches() const {
    return static_cast<double>(std::max<std::int64_t>(normaliser_.micro_batches, 1));
  }

  double weight_of(double length) const {
    const auto sequences = static_cast<double>(std::max<std::int64_t>(normaliser_.sequences_in_step, 1));
    switch (type_.average) {
      case Average::kSequenceMean:
      case Average::kSequenceValue:
        return 1 / (sequences * std::max(length, 1.0));
      case Average::kSequenceSum:
        return 1 / sequences;
      case Average::kMicroBatchTokens:
        return 1 / (std::max(tokens_, 1.0) * micro_batches());
      case Average::kFixedLength:
        return 1 / (sequences * static_cast<double>(config_.max_completion_length));
      case Average::kStepTokens:
        return 1 / std::max(normaliser_.tokens_in_step, 1.0);
    }
    return 0;
  }

  double log_ratio(std::size_t t) const {
    return in_.old_logps.empty() ? 0.0
                                 : static_cast<double>(in_.logps[t]) - static_cast<double>(in_.old_logps[t]);
  }

  // vespo takes the rollout correction into its weight instead.
  double correction(const Answer& answer, std::size_t t) const {
    if (type_.token_loss == TokenLoss::kVespo) return 1;
    if (!in_.token_correction.empty()) return static_cast<double>(in_.token_correction[t]);
    if (!in_.sequence_correction.empty()) return static_cast<double>(in_.sequence_correction[answer.index]);
    return 1;
  }

  Answer describe(std::size_t i) const {
    Answer answer;
    answer.index = i;
    answer.begin = static_cast<std::size_t>(in_.offsets[i]);
    answer.end = static_cast<std::size_t>(in_.offsets[i + 1]);
    answer.advantage = static_cast<double>(in_.advantages[i]);
    double log_ratio_sum = 0, log_w = 0;
    for (std::size_t t = answer.begin; t < answer.end; ++t) {
      if (!trained(t)) continue;
      answer.length += 1;
      log_ratio_sum += log_ratio(t);
      log_w += clamped_log_ratio(log_ratio(t));
      if (!in_.token_correction.empty())
        log_w += clamped_log_correction(static_cast<double>(in_.token_correction[t]));
    }
    if (!in_.sequence_correction.empty())
      log_w += clamped_log_correction(static_cast<double>(in_.sequence_correction[i]));
    answer.sequence_ratio = std::exp(
        ratio_ == Ratio::kSequenceProduct ? log_ratio_sum : log_ratio_sum / std::max(answer.length, 1.0));
    answer.weight = weight_of(answer.length);
    if (type_.token_loss == TokenLoss::kVespo)
      answer.phi = vespo_weight(clamped_log_weight(log_w), answer.advantage, config_);
    if (is_off_policy(in_, i, config_.off_policy_mask_threshold)) answer.keep = 0;
    return answer;
  }

  void add_sequence(std::size_t i) {
    Answer answer = describe(i);
    double grad_sequence_ratio = 0;
    for (std::size_t t = answer.begin; t < answer.end; ++t) {
      if (!trained(t)) continue;
      const double ratio = ratio_ == Ratio::kToken ? std::exp(log_ratio(t)) : answer.sequence_ratio;
      const double grad_ratio = add_token(answer, t, ratio);
      if (ratio_ != Ratio::kToken) {
        grad_sequence_ratio += grad_ratio;
      } else if (grad_ratio != 0) {
        result_.grad_logps[t] += static_cast<Real>(grad_ratio * ratio);
      }
      count(answer, ratio);
    }
    if (grad_sequence_ratio != 0) {
      const double slope = grad_sequence_ratio * answer.sequence_ratio;
      const double share = ratio_ == Ratio::kSequenceProduct ? slope : slope / answer.length;
      for (std::size_t t = answer.begin; t < answer.end; ++t)
        if (trained(t)) result_.grad_logps[t] += static_cast<Real>(share);
    }
    if (type_.average == Average::kSequenceValue && answer.length == 0)
      result_.loss += answer.weight * answer.keep *
                      token_term(type_.token_loss, 1, answer.advantage, 0, 0, config_).value;
    add_metrics(answer);
  }

  // Adds the token's cost and its gradient except what goes through the ratio, which it returns (weight
  // included).
  double add_token(const Answer& answer, std::size_t t, double ratio) {
    const double logp = static_cast<double>(in_.logps[t]);
    const Term term = token_term(type_.token_loss, ratio, answer.advantage, logp, answer.phi, config_);
    const double factor = kept(t) ? answer.keep * correction(answer, t) : 0;
    double value = factor == 0 ? 0 : factor * term.value;
    double grad_ratio = factor == 0 ? 0 : factor * term.grad_ratio;
    if (!in_.ref_logps.empty()) {
      Kl kl = kl_estimate(estimator_, static_cast<double>(in_.ref_logps[t]), logp);
      if (config_.use_bias_correction_kl) {
        grad_ratio += config_.beta * kl.value;
        kl = {kl.value * ratio, kl.grad_logp * ratio};
      }
      if (config_.beta != 0) {
        value += config_.beta * kl.value;
        result_.grad_logps[t] += static_cast<Real>(answer.weight * config_.beta * kl.grad_logp);
      }
      kl_.add(kl.value);
    }
    if (factor != 0 && term.grad_logp != 0)
      result_.grad_logps[t] += static_cast<Real>(answer.weight * factor * term.grad_logp);
    if (!in_.entropies.empty()) entropy_.add(static_cast<double>(in_.entropies[t]));
    result_.loss += answer.weight * value;
    return answer.weight * grad_ratio;
  }

  void count(Answer& answer, double ratio) const {
    const double bounded = config_.delta == 0 ? ratio : std::min(ratio, config_.delta);
    answer.low += bounded < 1 - config_.epsilon && answer.advantage < 0 ? 1 : 0;
    answer.high += bounded > 1 + config_.epsilon_high && answer.advantage > 0 ? 1 : 0;
    answer.capped += ratio > config_.epsilon_high && answer.advantage > 0 ? 1 : 0;
  }

  // On sequence-level ratios a share is over sequences, also those without a trained token.
  void add_metrics(const Answer& answer) {
    const bool by_token = ratio_ == Ratio::kToken;
    const double per_token = std::max(answer.length, 1.0);
    const double part = by_token ? 1 : 1 / per_token, whole = by_token ? answer.length : 1;
    MetricSums& sums = result_.sums;
    switch (type_.token_loss) {
      case TokenLoss::kClip:
        add_to_mean(sums, "clip_ratio/low_mean", answer.low * part, whole);
        add_to_mean(sums, "clip_ratio/high_mean", answer.high * part, whole);
        add_to_mean(sums, "clip_ratio/region_mean", answer.low * part + answer.high * part, whole);
        if (answer.length == 0) return;
        keep_least(sums, "clip_ratio/low_min", answer.low / per_token);
        keep_largest(sums, "clip_ratio/high_max", answer.high / per_token);
        return;
      case TokenLoss::kCispo:
        add_to_mean(sums, "cispo_clip_ratio", answer.capped * part, whole);
        return;
      case TokenLoss::kVespo:
        add_to_mean(sums, "vespo/phi_seq_mean", answer.phi, 1);
        return;
      case TokenLoss::kSapo:
        return;
    }
  }

  void take_off_entropy() {
    double sum = 0, count = 0;
    for (std::size_t t = 0; t < in_.logps.size(); ++t) {
      if (!trained(t) || !kept(t)) continue;
      sum += static_cast<double>(in_.entropies[t]);
      count += 1;
    }
    const double weight = config_.entropy_coef / (std::max(count, 1.0) * micro_batches());
    result_.grad_entropies.resize(in_.logps.size(), Real{0});
    for (std::size_t t = 0; t < in_.logps.size(); ++t)
      if (trained(t) && kept(t)) result_.grad_entropies[t] = static_cast<Real>(-weight);
    result_.entropy_bonus = weight * sum;
    result_.loss -= result_.entropy_bonus;
    add_to_mean(result_.sums, "entropy_coef", config_.entropy_coef);
  }

  const PolicyLossConfig& config_;
  const PolicyLossInputs<Real>& in_;
  const LossNormaliser& normaliser_;
  const LossType& type_;
  const Ratio ratio_;
  const KlEstimator estimator_;
  double tokens_ = 0;
  TokenSum kl_, entropy_;
  std::optional<double> least_entropy_;
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
