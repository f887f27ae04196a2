#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/augment_config.h"
#include "model/lora_config.h"
#include "model/trained_parts.h"
#include "reward/reward_client_config.h"
#include "reward/reward_function.h"
#include "trainer/advantages.h"
#include "trainer/checkpoint/saving_config.h"
#include "trainer/curriculum_config.h"
#include "trainer/data_config.h"
#include "trainer/optimizer_config.h"
#include "trainer/policy_loss.h"
#include "trainer/ranks_config.h"
#include "trainer/rollout_correction.h"
#include "trainer/training_guard.h"

namespace ferro {

/// `ferro train grpo -c file.yaml`.
struct GrpoConfig {
  std::string model_name_or_path;
  std::string output_dir = "runs/grpo";
  bool overwrite_output_dir = false;
  std::int64_t seed = 0;
  std::int64_t num_train_epochs = 1;
  std::int64_t max_steps = 0;
  std::int64_t prompts_per_step = 24;
  std::int64_t num_generations = 8;
  std::int64_t num_iterations = 1;
  std::int64_t steps_per_generation = 1;
  std::int64_t max_tokens_per_micro_batch = 16384;
  double temperature = 1.0, top_p = 1.0, min_p = 0.0;
  std::int64_t top_k = 0;
  std::int64_t max_completion_length = 128;
  std::vector<std::string> reward_functions{"accuracy", "format"};
  std::vector<double> reward_weights;
  std::string advantage_estimator = "grpo";
  std::string scale_rewards = "group";
  std::string multi_objective_aggregation = "sum_then_normalize";
  std::vector<double> reward_clip_range;
  bool normalize_advantages = false, kl_in_reward = false;
  std::string unjudged = "set_aside";
  bool mask_truncated_completions = false;
  std::int64_t overlong_buffer = 0;
  double overlong_penalty_factor = 1.0;
  std::string recompute = "none";
  std::int64_t kv_cache_tokens = 65536;
  std::int64_t logging_steps = 1, eval_steps = 0;
  std::int64_t save_rollouts_steps = 0;
  SavingConfig saving;
  RewardClientConfig reward_service;
  PolicyLossConfig loss;
  RolloutCorrectionConfig rollout_correction;
  CurriculumConfig curriculum;
  GuardConfig guard;
  DataConfig data;
  AugmentConfig augmentation;
  OptimizerConfig optimizer;
  TrainedParts train;
  LoraConfig lora;
  RanksConfig ranks;

  template <class Visitor>
  void visit(Visitor& v) {
    visit_run(v);
    visit_generation(v);
    visit_rewards(v);
    visit_saving(v);
    v.section("reward_service", reward_service,
              "Where answers are judged: in this process, or by `ferro-reward` (docs/reward-service.md).");
    v.section("loss", loss, "Policy loss.");
    v.section("rollout_correction", rollout_correction,
              "What sampler and trainer differ in their log-probs.");
    v.section("curriculum", curriculum, "Which prompts are trained on.");
    v.section("guard", guard, "Numbers that leave their bounds.");
    v.section("data", data, "Rows and prompts.");
    v.section("augmentation", augmentation, "Augmentation of training images.");
    v.section("optimizer", optimizer, "AdamW and schedule.");
    v.section("train", train, "Which parts of the model are trained.");
    v.section("lora", lora, "Low-rank adapters on a frozen base, which then is the reference too.");
    v.section("ranks", ranks, "Several processes that train one model (docs/scaling.md).");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (model_name_or_path.empty()) report("model_name_or_path", "must name a model folder");
    if (output_dir.empty()) report("output_dir", "must name a run folder");
    if (data.train_file.empty()) report("data.train_file", "must name a data file");
    validate_rewards(report);
    saving.validate_saving(report);
    if (num_generations < 2 && advantage_estimator != "reinforce_plus_plus")
      report("num_generations", "must be at least 2: an answer is compared with the others of its prompt");
    if (kl_in_reward && loss.beta == 0) report("kl_in_reward", "has no weight: loss.beta is 0");
    if (overlong_buffer > max_completion_length)
      report("overlong_buffer", "must not exceed max_completion_length");
    if (curriculum.dynamic_sampling && unjudged == "trl")
      report("unjudged", "must be set_aside with curriculum.dynamic_sampling");
  }

  std::int64_t prompts_per_generation() const { return prompts_per_step * steps_per_generation; }
  std::int64_t steps_of_generation() const { return num_iterations * steps_per_generation; }
  AdvantageSettings advantages() const {
    return {advantage_estimator, scale_rewards,     multi_objective_aggregation,
            reward_weights,      reward_clip_range, normalize_advantages};
  }

 private:
  template <class Report>
  void validate_rewards(Report&& report) const {
    if (reward_functions.empty()) report("reward_functions", "must name at least one function");
    for (const std::string& name : reward_functions)
      if (const std::string why = why_not_a_reward_function(name); !why.empty())
        report("reward_functions", why);
    if (!reward_weights.empty() && reward_weights.size() != reward_functions.size())
      report("reward_weights", "must have one weight per reward function");
    if (!reward_clip_range.empty() &&
        (reward_clip_range.size() != 2 || reward_clip_range[0] > reward_clip_range[1]))
      report("reward_clip_range", "must be empty or the least and the largest reward");
  }

  template <class Visitor>
  void visit_run(Visitor& v) {
    v.field("model_name_or_path", model_name_or_path,
            "Hugging Face model folder to start from; also the frozen reference.");
    v.field("output_dir", output_dir, "Run folder.");
    v.field("overwrite_output_dir", overwrite_output_dir, "Replace an existing run folder.");
    v.field("seed", seed, {.min = 0}, "Key of all randomness of the run.");
    v.field("num_train_epochs", num_train_epochs, {.min = 1},
            "Passes over the prompts; max_steps wins when it is set.");
    v.field("max_steps", max_steps, {.min = 0}, "Optimizer steps; 0: by epochs.");
    v.field("prompts_per_step", prompts_per_step, {.min = 1, .max = 65536},
            "Prompts (groups) per optimizer step.");
    v.field("num_generations", num_generations, {.min = 1, .max = 1024},
            "Answers per prompt; advantages are centred within them.");
    v.field("num_iterations", num_iterations, {.min = 1, .max = 64},
            "Passes over the same answers; each takes steps_per_generation optimizer steps.");
    v.field("steps_per_generation", steps_per_generation, {.min = 1, .max = 1024},
            "Optimizer steps that share one generation, each on its part of the prompts in data order; a "
            "generation has prompts_per_step prompts for each.");
    v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch, {.min = 16},
            "Token budget of a packed micro-batch; a group above it is split, its prompt repeated.");
  }
  template <class Visitor>
  void visit_generation(Visitor& v) {
    v.field("temperature", temperature, {.min = 0.01, .max = 100.0},
            "Sampling temperature; log-probs are of logits / temperature.");
    v.field("top_p", top_p, {.min = 0.0, .max = 1.0}, "Nucleus sampling.");
    v.field("top_k", top_k, {.min = 0}, "Sample from the k most likely; 0: all.");
    v.field("min_p", min_p, {.min = 0.0, .max = 1.0}, "Least probability as a share of the largest.");
    v.field("max_completion_length", max_completion_length, {.min = 1, .max = 1 << 20},
            "Longest answer in tokens.");
    v.field("mask_truncated_completions", mask_truncated_completions,
            "Answers that reached max_completion_length without an end are rewarded, but not trained on.");
    v.field(
        "overlong_buffer", overlong_buffer, {.min = 0},
        "DAPO's soft punishment: over the last so many tokens before max_completion_length a reward falls "
        "from 0 to -1; 0: none.");
    v.field("overlong_penalty_factor", overlong_penalty_factor, {.min = 0.0, .max = 1000.0},
            "Weight of that reward.");
  }
  template <class Visitor>
  void visit_rewards(Visitor& v) {
    v.field("reward_functions", reward_functions, "Their weighted sum is the reward.");
    v.field("reward_weights", reward_weights, "One per function; empty: all 1.");
    v.field("unjudged", unjudged, Choices{"set_aside", "trl"},
            "A reward that could not be computed: its group is set aside and counted, or the function counts "
            "nothing for that answer, as in TRL.");
    v.field(
        "advantage_estimator", advantage_estimator,
        Choices{"grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline"},
        "What an answer is compared with: its group, the others of its group, the batch, or its group and "
        "then the batch.");
    v.field("scale_rewards", scale_rewards, Choices{"group", "batch", "none"},
            "grpo: divide centred rewards by the group's std, the batch's, or not (Dr. GRPO).");
    v.field("multi_objective_aggregation", multi_objective_aggregation,
            Choices{"sum_then_normalize", "normalize_then_sum"},
            "grpo: normalise the weighted sum, or each function first (GDPO).");
    v.field("reward_clip_range", reward_clip_range, "Least and largest reward; empty: no limits.");
    v.field("normalize_advantages", normalize_advantages,
            "rloo: advantages get mean 0 and std 1 over the batch.");
    v.field("kl_in_reward", kl_in_reward,
            "loss.beta times the answer's log-ratio to the reference is taken off its reward, instead of a "
            "term in the loss (RLOO).");
  }
  template <class Visitor>
  void visit_saving(Visitor& v) {
    v.field("recompute", recompute, Choices{"none", "full"},
            "full: keep only each stage's input and recompute its graph in backward.");
    v.field("kv_cache_tokens", kv_cache_tokens, {.min = 64}, "Rows of the rollout engine's key/value cache.");
    v.field("logging_steps", logging_steps, {.min = 1}, "Steps between lines of metrics.jsonl.");
    v.field("eval_steps", eval_steps, {.min = 0},
            "Steps between evaluations, before the first step too; the best model by accuracy is kept. 0: "
            "only at the end.");
    v.field("save_rollouts_steps", save_rollouts_steps, {.min = 0},
            "Steps between files of completions in rollouts/; 0: none.");
    saving.visit(v);
  }
};

}  // namespace ferro
