#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/config_visitor.h"
#include "trainer/metric_sums.h"

namespace ferro {

/// Importance sampling for what the sampler's log-probs differ from the trainer's (another kernel, precision
/// or policy version). TRL's names.
struct RolloutCorrectionConfig {
  bool vllm_importance_sampling_correction = true;
  std::string vllm_importance_sampling_mode = "token_truncate";
  double vllm_importance_sampling_clip_max = 3.0;
  double vllm_importance_sampling_clip_min = 0.0;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("vllm_importance_sampling_correction", vllm_importance_sampling_correction,
            "Weigh costs by the probability under the trainer over that under the sampler. Exactly 1 where "
            "both are the same to the bit, as on the CPU.");
    v.field(
        "vllm_importance_sampling_mode", vllm_importance_sampling_mode,
        Choices{"token_truncate", "token_mask", "sequence_truncate", "sequence_mask"},
        "Ratio per token or per answer (the product); outside the limits it is set to the limit, or to 0.");
    v.field("vllm_importance_sampling_clip_max", vllm_importance_sampling_clip_max, {.min = 0.0, .max = 1e6},
            "Largest ratio; 0: no limit.");
    v.field("vllm_importance_sampling_clip_min", vllm_importance_sampling_clip_min, {.min = 0.0, .max = 1.0},
            "Least ratio; 0: no limit.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (vllm_importance_sampling_clip_max != 0 &&
        vllm_importance_sampling_clip_max < vllm_importance_sampling_clip_min)
      report("vllm_importance_sampling_clip_max", "must be at least vllm_importance_sampling_clip_min");
  }
};

template <class Real>
struct RolloutCorrection {
  std::vector<Real> token;     ///< [N], or empty
  std::vector<Real> sequence;  ///< [S], or empty. Both empty: no correction.
  /// "sampling/sampling_logp_difference/mean", "/max" and, corrected,
  /// "sampling/importance_sampling_ratio/min",
  /// "/mean", "/max".
  MetricSums sums;
};

/// Ratios exp(logp - sampled), NaN differences counting as 0. `offsets` [S + 1] of the sequences, `logps` of
/// the policy at generation, `sampled` the sampler's [N]; `mask` as of policy_loss, empty: all. For float and
/// double.
template <class Real>
RolloutCorrection<Real> rollout_correction(const RolloutCorrectionConfig& config,
                                           std::span<const std::int64_t> offsets, std::span<const Real> logps,
                                           std::span<const Real> sampled, std::span<const std::uint8_t> mask);

}  // namespace ferro
