#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "trainer/group_packing.h"
#include "trainer/grpo_step.h"
#include "trainer/rollout_batch.h"

namespace ferro {

/// The part of a generation that one optimizer step trains on, as far as it is one rank's.
struct StepPart {
  std::vector<AnsweredPrompt> groups;
  std::vector<std::vector<AnswerState>> states;  ///< [group][answer], of the answers that are packed.
  std::vector<MicroBatch> micro_batches;
  LossNormaliser normaliser;       ///< Of all ranks; `micro_batches` only with same_micro_batches.
  std::size_t groups_in_step = 0;  ///< That have answers to train on, of all ranks.
  bool pictures = false;           ///< Some prompt of its share holds one, whether it is packed or not.
};

struct StepPlanSettings {
  std::int64_t steps_per_generation = 1;
  std::int64_t max_tokens_per_micro_batch = 16384;
  bool mask_truncated_completions = false;
  bool pack_all = false;  ///< Also groups without signal: something else pulls at their tokens.
  /// Rank `rank` gets the rank-th of `ranks` parts of a step's groups, and packs them; with
  /// same_micro_batches of the micro-batches of all groups, which then do not depend on the ranks.
  int rank = 0, ranks = 1;
  bool same_micro_batches = false;
};

/// Whether a loss gives groups without signal a gradient, or needs their tokens for what it does to others.
bool needs_groups_without_signal(const PolicyLossConfig& loss);
/// Whether a loss is defined per micro-batch, so that other micro-batches are another loss.
bool depends_on_micro_batches(const PolicyLossConfig& loss);

struct StepPlan {
  std::vector<StepPart> parts;            ///< [steps_per_generation], some perhaps without micro-batches.
  std::map<std::string, double> metrics;  ///< "completions/masked", "batch/over_budget": answers that exceed
                                          ///< the token budget with their prompt and are packed alone.
};

/// Cuts a generation's groups, in data order, into as equal parts as there are steps and packs each. Answers
/// that no step trains on count in the normalisers' answers, masked ones not in their tokens. A step counts
/// its share of the generation's trained tokens, as TRL does. Pure.
StepPlan plan_steps(std::span<const JudgedGroup> groups, const StepPlanSettings& settings);

}  // namespace ferro
