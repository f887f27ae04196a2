#include "trainer/policy_loss_terms.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"

namespace ferro {
namespace {

constexpr std::array<LossType, 9> kLossTypes{{
    {"grpo", TokenLoss::kClip, Average::kSequenceMean},
    {"bnpo", TokenLoss::kClip, Average::kMicroBatchTokens},
    {"dr_grpo", TokenLoss::kClip, Average::kFixedLength},
    {"dapo", TokenLoss::kClip, Average::kStepTokens},
    {"luspo", TokenLoss::kClip, Average::kSequenceSum},
    {"cispo", TokenLoss::kCispo, Average::kStepTokens},
    {"sapo", TokenLoss::kSapo, Average::kSequenceMean},
    {"vespo", TokenLoss::kVespo, Average::kStepTokens},
    {"rloo", TokenLoss::kClip, Average::kSequenceValue, true},
}};

constexpr double kLogLimit = 20;  // vespo keeps logarithms of ratios within it.
const double kLogLeast = std::log(1e-8);

// Of two costs the larger (of two gains the smaller); where they are equal, half of each slope, as
// torch.minimum does.
Term clip_term(double ratio, double advantage, const PolicyLossConfig& config) {
  const double low = 1 - config.epsilon, high = 1 + config.epsilon_high;
  const bool bounded = config.delta != 0 && ratio > config.delta;
  const double plain = (bounded ? config.delta : ratio) * advantage;
  const double clipped = std::clamp(ratio, low, high) * advantage;
  const double plain_slope = bounded ? 0 : -advantage,
               clipped_slope = ratio >= low && ratio <= high ? -advantage : 0;
  if (plain < clipped) return {-plain, plain_slope, 0};
  if (clipped < plain) return {-clipped, clipped_slope, 0};
  return {-plain, (plain_slope + clipped_slope) / 2, 0};
}

Term sapo_term(double ratio, double advantage, const PolicyLossConfig& config) {
  const double tau = advantage > 0 ? config.sapo_temperature_pos : config.sapo_temperature_neg;
  const double gate = 1 / (1 + std::exp(-tau * (ratio - 1)));
  return {-4 / tau * gate * advantage, -4 * gate * (1 - gate) * advantage, 0};
}

}  // namespace

const LossType& find_loss_type(const std::string& name) {
  for (const LossType& type : kLossTypes)
    if (type.name == name) return type;
  std::string names;
  for (const LossType& type : kLossTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  fail(ErrorCode::kConfig, "loss_type is `{}`; it can be {}", name, names);
}

Ratio ratio_of(const LossType& type, const PolicyLossConfig& config) {
  if (type.ratio_of_product) return Ratio::kSequenceProduct;
  if (config.importance_sampling_level == "token") return Ratio::kToken;
  if (config.importance_sampling_level == "sequence") return Ratio::kSequenceMean;
  fail(ErrorCode::kConfig, "importance_sampling_level is `{}`; it can be token or sequence",
       config.importance_sampling_level);
}

Term token_term(TokenLoss kind, double ratio, double advantage, double logp, double phi,
                const PolicyLossConfig& config) {
  if (advantage == 0) return {};
  switch (kind) {
    case TokenLoss::kClip:
      return clip_term(ratio, advantage, config);
    case TokenLoss::kSapo:
      return sapo_term(ratio, advantage, config);
    case TokenLoss::kCispo: {
      const double slope = -std::min(ratio, config.epsilon_high) * advantage;
      return {slope * logp, 0, slope};
    }
    case TokenLoss::kVespo:
      return {-phi * advantage * logp, 0, -phi * advantage};
  }
  return {};
}

double clamped_log_ratio(double log_ratio) {
  return std::clamp(log_ratio, -kLogLimit, kLogLimit);
}

double clamped_log_correction(double ratio) {
  return std::clamp(std::log(ratio), kLogLeast, kLogLimit);
}

double clamped_log_weight(double log_w) {
  return std::clamp(log_w, kLogLeast, kLogLimit);
}

double vespo_weight(double log_w, double advantage, const PolicyLossConfig& config) {
  const double k = advantage >= 0 ? config.vespo_k_pos : config.vespo_k_neg,
               lambda = advantage >= 0 ? config.vespo_lambda_pos : config.vespo_lambda_neg;
  const double phi = std::exp(lambda + k * log_w - lambda * std::exp(log_w));
  return std::isfinite(phi) ? phi : 0;
}

KlEstimator find_kl_estimator(const std::string& name) {
  if (name == "k1") return KlEstimator::kK1;
  if (name == "k2") return KlEstimator::kK2;
  if (name == "k3") return KlEstimator::kK3;
  fail(ErrorCode::kConfig, "kl_estimator is `{}`; it can be k1, k2 or k3", name);
}

// Source: J. Schulman, "Approximating KL divergence" (2020). k3 is never negative and unbiased on-policy.
Kl kl_estimate(KlEstimator estimator, double ref, double logp) {
  const double difference = ref - logp;
  switch (estimator) {
    case KlEstimator::kK1:
      return {-difference, 1};
    case KlEstimator::kK2:
      return {difference * difference / 2, -difference};
    case KlEstimator::kK3:
      return {std::expm1(difference) - difference, -std::expm1(difference)};
  }
  return {};
}

}  // namespace ferro
