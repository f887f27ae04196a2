#pragma once

#include <string>
#include <string_view>

#include "trainer/policy_loss.h"

namespace ferro {

// m: the mask, r: the importance ratio, A: the advantage, pi: the log-prob.

/// What one token costs before averaging.
enum class TokenLoss {
  kClip,   ///< -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A)
  kCispo,  ///< -[min(r, epsilon_high)] A pi; [] has no gradient.
  kSapo,   ///< -(4 / tau) sigmoid(tau (r - 1)) A
  kVespo,  ///< -[phi] A pi, phi one weight per answer.
};

/// How the costs of a step are averaged.
enum class Average {
  kSequenceMean,      ///< (1 / answers of the step) sum_i [sum_t m l / max(sum_t m, 1)]
  kSequenceSum,       ///< (1 / answers of the step) sum_i sum_t m l
  kSequenceValue,     ///< (1 / answers of the step) sum_i l_i: the cost is the answer's.
  kMicroBatchTokens,  ///< sum m l / max(sum m, 1) of this micro-batch, over the number of micro-batches.
  kFixedLength,       ///< sum m l / (answers of the step * max_completion_length)
  kStepTokens,        ///< sum m l / max(trained tokens of the step, 1)
};

enum class Ratio {
  kToken,            ///< exp(s_t), s = pi - pi_old
  kSequenceMean,     ///< exp(sum_t m s / max(sum_t m, 1))
  kSequenceProduct,  ///< exp(sum_t m s)
};

/// One line of the table.
struct LossType {
  std::string_view name;
  TokenLoss token_loss;
  Average average;
  bool ratio_of_product = false;  ///< Not the configured level but kSequenceProduct.
};

/// Error{kConfig} with the known names.
const LossType& find_loss_type(const std::string& name);
Ratio ratio_of(const LossType& type, const PolicyLossConfig& config);

/// A token's cost and its slopes.
struct Term {
  double value = 0, grad_ratio = 0, grad_logp = 0;
};
/// `phi`: vespo_weight's, else unused. An advantage of 0 costs nothing, also where the ratio overflows.
Term token_term(TokenLoss kind, double ratio, double advantage, double logp, double phi,
                const PolicyLossConfig& config);

/// vespo's weight of an answer: exp(lambda + k log w - lambda w), 0 where that is not finite; k and lambda by
/// the advantage's sign.
double vespo_weight(double log_w, double advantage, const PolicyLossConfig& config);
double clamped_log_ratio(double log_ratio);   ///< A token's part of vespo's log w.
double clamped_log_correction(double ratio);  ///< The rollout correction's.
double clamped_log_weight(double log_w);      ///< log w itself.

struct Kl {
  double value = 0, grad_logp = 0;
};
enum class KlEstimator { kK1, kK2, kK3 };
KlEstimator find_kl_estimator(const std::string& name);
Kl kl_estimate(KlEstimator estimator, double ref, double logp);

}  // namespace ferro
