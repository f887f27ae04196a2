#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/config_visitor.h"

namespace ferro {

/// The policy loss as one table of parameters (TRL's names). docs/losses.md gives each formula, its
/// normaliser and its source.
struct PolicyLossConfig {
  std::string loss_type = "grpo";
  std::string importance_sampling_level = "token";
  double epsilon = 0.2;
  double epsilon_high = 0.2;
  double delta = 0.0;
  double beta = 0.0;
  std::string kl_estimator = "k3";
  bool use_bias_correction_kl = false;
  double top_entropy_quantile = 1.0;
  double off_policy_mask_threshold = 0.0;
  double entropy_coef = 0.0;
  double sapo_temperature_pos = 1.0, sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2.0, vespo_lambda_pos = 3.0, vespo_k_neg = 3.0, vespo_lambda_neg = 2.0;
  std::int64_t max_completion_length = 256;  ///< dr_grpo's normaliser; set from the sampling section.

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("loss_type", loss_type,
            Choices{"grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo", "rloo"},
            "What a token costs and how costs are averaged (docs/losses.md).");
    v.field("importance_sampling_level", importance_sampling_level, Choices{"token", "sequence"},
            "Ratio per token (GRPO) or per answer (GSPO); rloo has a rule of its own.");
    v.field("epsilon", epsilon, {.min = 0.0, .max = 10.0},
            "The importance ratio is clipped to at least 1 - epsilon.");
    v.field("epsilon_high", epsilon_high, {.min = 0.0, .max = 100.0},
            "The importance ratio is clipped to at most 1 + epsilon_high (DAPO: 0.28). cispo: the cap of the "
            "ratio itself (5).");
    v.field("delta", delta, {.min = 0.0, .max = 1e6},
            "Upper bound of the ratio also where the advantage is negative (two-sided clipping); more than "
            "1 + epsilon_high; 0: none.");
    v.field("beta", beta, {.min = 0.0, .max = 100.0},
            "Weight of the KL estimate to the frozen reference; 0: no reference is kept.");
    v.field("kl_estimator", kl_estimator, Choices{"k1", "k2", "k3"},
            "k3 (TRL): exp(d) - d - 1 with d = log ref - log pi; k2: d * d / 2; k1: -d, whose gradient "
            "averages to 0.");
    v.field("use_bias_correction_kl", use_bias_correction_kl,
            "Multiply the KL estimate by the importance ratio, gradient included (TRL's default; the "
            "published run does not).");
    v.field("top_entropy_quantile", top_entropy_quantile, {.min = 0.0, .max = 1.0},
            "Share of a micro-batch's tokens, those of highest entropy, that the policy term is kept for; 1: "
            "all.");
    v.field("off_policy_mask_threshold", off_policy_mask_threshold, {.min = 0.0, .max = 1000.0},
            "Answers of negative advantage whose mean log-prob fell by more than this since sampling lose "
            "their policy term; 0: none does.");
    v.field("entropy_coef", entropy_coef, {.min = 0.0, .max = 100.0},
            "Weight of the mean token entropy that is taken off the loss.");
    v.field("sapo_temperature_pos", sapo_temperature_pos, {.min = 1e-3, .max = 1000.0},
            "sapo: steepness of the gate where the advantage is positive.");
    v.field("sapo_temperature_neg", sapo_temperature_neg, {.min = 1e-3, .max = 1000.0},
            "sapo: the same where it is not.");
    v.field("vespo_k_pos", vespo_k_pos, {.min = 0.0, .max = 1000.0},
            "vespo: power of the ratio in an answer's weight, advantage not negative.");
    v.field("vespo_lambda_pos", vespo_lambda_pos, {.min = 0.0, .max = 1000.0},
            "vespo: decay of that weight in the ratio.");
    v.field("vespo_k_neg", vespo_k_neg, {.min = 0.0, .max = 1000.0}, "vespo: power, advantage negative.");
    v.field("vespo_lambda_neg", vespo_lambda_neg, {.min = 0.0, .max = 1000.0},
            "vespo: decay, advantage negative.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (delta != 0 && delta <= 1 + epsilon_high)
      report("delta", "must be more than 1 + epsilon_high, or it clips what epsilon_high lets through");
    if (top_entropy_quantile == 0) report("top_entropy_quantile", "must be more than 0");
    if (loss_type == "rloo" && importance_sampling_level == "sequence")
      report("importance_sampling_level", "has no meaning with loss_type rloo: its ratio is the answer's");
  }
};

/// Packed answers: sequence i owns tokens [offsets[i], offsets[i + 1]). All spans [N] tokens unless said
/// otherwise; empty: not given.
template <class Real>
struct PolicyLossInputs {
  std::span<const std::int64_t> offsets;  ///< [S + 1]
  std::span<const Real> logps, entropies;
  std::span<const Real> old_logps;            ///< Empty: equal to logps, detached.
  std::span<const Real> ref_logps;            ///< Empty: beta must be 0.
  std::span<const Real> sampling_logps;       ///< For off_policy_mask_threshold; empty: the old ones.
  std::span<const Real> token_correction;     ///< Rollout correction (rollout_correction.h) per token ...
  std::span<const Real> sequence_correction;  ///< ... or [S] per sequence; not both.
  std::span<const Real> advantages;           ///< [S]
  std::span<const std::uint8_t> mask;         ///< 0: the token is not trained on. Empty: all are.
};

/// What a micro-batch must know of the optimizer step it belongs to, so that the split changes nothing.
struct LossNormaliser {
  std::int64_t sequences_in_step =
      0;  ///< Means over answers: all answers of the optimizer step (all micro-batches and ranks).
  double tokens_in_step = 0;       ///< Means over tokens: all trained tokens of it.
  std::int64_t micro_batches = 1;  ///< Of all ranks: for what is defined per micro-batch.
};

template <class Real>
struct PolicyLossResult {
  double loss = 0;                   ///< This micro-batch's part: parts of a step add up to the step's loss.
  double entropy_bonus = 0;          ///< What entropy_coef took off it.
  std::vector<Real> grad_logps;      ///< [N] d loss / d logps.
  std::vector<Real> grad_entropies;  ///< [N], empty without entropy_coef.
  /// Parts of metrics that add up over micro-batches and ranks: "kl", "entropy", "clip_ratio/low_mean", ...
  /// as "<name>/sum" and "<name>/count"; "clip_ratio/low_min/min" and "clip_ratio/high_max/max" are least and
  /// largest values (absent without a trained token).
  std::map<std::string, double> sums;
};

/// Instantiated for float and double; the arithmetic is double.
template <class Real>
PolicyLossResult<Real> policy_loss(const PolicyLossConfig& config, const PolicyLossInputs<Real>& inputs,
                                   const LossNormaliser& normaliser);

}  // namespace ferro
