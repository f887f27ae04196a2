#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
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
  double beta = 0.0;
  bool use_bias_correction_kl = false;
  std::int64_t max_completion_length = 256;  ///< dr_grpo's normaliser; set from the sampling section.

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("loss_type", loss_type, Choices{"grpo", "bnpo", "dr_grpo", "dapo"},
            "How token losses are averaged (docs/losses.md).");
    v.field("importance_sampling_level", importance_sampling_level, Choices{"token", "sequence"},
            "Ratio per token (GRPO) or per answer (GSPO).");
    v.field("epsilon", epsilon, {.min = 0.0, .max = 10.0},
            "The importance ratio is clipped to at least 1 - epsilon.");
    v.field("epsilon_high", epsilon_high, {.min = 0.0, .max = 100.0},
            "The importance ratio is clipped to at most 1 + epsilon_high (DAPO: 0.28).");
    v.field("beta", beta, {.min = 0.0, .max = 100.0},
            "Weight of the KL estimate (k3) to the frozen reference; 0: no reference is kept.");
    v.field("use_bias_correction_kl", use_bias_correction_kl,
            "Multiply the KL estimate by the importance ratio, gradient included (TRL's default; the "
            "published run does not).");
  }
};

/// Packed answers: sequence i owns tokens [offsets[i], offsets[i + 1]). All spans [N] tokens unless said
/// otherwise; empty: not given (old_logps: equal to logps, detached; ref_logps: beta must be 0).
template <class Real>
struct PolicyLossInputs {
  std::span<const std::int64_t> offsets;  ///< [S + 1]
  std::span<const Real> logps, old_logps, ref_logps, entropies;
  std::span<const Real> advantages;    ///< [S]
  std::span<const std::uint8_t> mask;  ///< 0: the token is not trained on. Empty: all are.
};

/// What a micro-batch must know of the optimizer step it belongs to, so that the split changes nothing.
struct LossNormaliser {
  std::int64_t sequences_in_step =
      0;  ///< grpo, dr_grpo: all answers of the optimizer step (all micro-batches and ranks).
  std::int64_t tokens_in_step = 0;  ///< dapo: all trained tokens of it.
  std::int64_t micro_batches = 1;   ///< bnpo: whose definition is per micro-batch.
};

template <class Real>
struct PolicyLossResult {
  double loss = 0;                   ///< This micro-batch's part: parts of a step add up to the step's loss.
  std::vector<Real> grad_logps;      ///< [N] d loss / d logps.
  std::vector<Real> grad_entropies;  ///< [N] or empty.
  /// Parts of metrics that add up over micro-batches and ranks: "kl", "entropy", "clip_ratio/low_mean", ...
  /// as "<name>/sum" and "<name>/count"; "clip_ratio/low_min/min" and "clip_ratio/high_max/max" are least and
  /// largest values (absent without a trained token).
  std::map<std::string, double> sums;
};

/// Instantiated for float and double.
template <class Real>
PolicyLossResult<Real> policy_loss(const PolicyLossConfig& config, const PolicyLossInputs<Real>& inputs,
                                   const LossNormaliser& normaliser);

}  // namespace ferro
