#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/clock.h"
#include "trainer/chunked_head.h"
#include "trainer/group_packing.h"
#include "trainer/layer_walk.h"
#include "trainer/metric_sums.h"
#include "trainer/policy_loss.h"
#include "trainer/rollout_correction.h"

namespace ferro {

/// What is known of one answer beside its tokens.
struct AnswerState {
  double advantage = 0;
  std::vector<float> sampled_logps;  ///< The sampler's, for the rollout correction. Empty: not known.
  std::vector<float>
      old_logps;  ///< Of the policy that the ratio is against; empty: of the weights as they are (ratio 1).
  std::vector<float> ref_logps;  ///< Of the frozen reference; filled in when first needed.
};

/// Forward, policy loss and backward of the micro-batches of one optimizer step; gradients are added to the
/// policy's arena. One thread.
class GrpoStep {
 public:
  /// `reference` null: beta must be 0. Both models must outlive the step.
  GrpoStep(const Model& policy, const Model* reference, const PolicyLossConfig& loss,
           LayerWalk::Recompute recompute, std::vector<std::int32_t> banned_ids, double temperature,
           RolloutCorrectionConfig correction = {});

  struct Outcome {
    double loss = 0;
    double entropy_bonus = 0;
    MetricSums sums;          ///< policy_loss's and rollout_correction's.
    std::int64_t tokens = 0;  ///< Packed tokens.
    double reference_seconds = 0;
  };
  /// states[group][answer]. `keep_logps`: where old_logps is empty, this pass's log-probs become them after
  /// the loss.
  Outcome run(std::span<const MicroBatch> micro_batches, std::vector<std::vector<AnswerState>>& states,
              const LossNormaliser& normaliser, bool keep_logps, const Clock& clock);
  /// Log-probs of the policy as it is, where old_logps are empty, and, `with_reference`, of the reference.
  void score(std::span<const MicroBatch> micro_batches, std::vector<std::vector<AnswerState>>& states,
             bool with_reference);

 private:
  struct Known;
  void add_reference(const MicroBatch& micro, std::vector<std::vector<AnswerState>>& states);

  PolicyLossConfig loss_;
  RolloutCorrectionConfig correction_;
  LayerWalk walk_;
  ChunkedHead head_;
  std::unique_ptr<LayerWalk> reference_walk_;
  std::unique_ptr<ChunkedHead> reference_head_;
};

}  // namespace ferro
