#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/augment_config.h"
#include "reward/reward_function.h"
#include "trainer/data_config.h"
#include "trainer/optimizer_config.h"
#include "trainer/policy_loss.h"

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
  std::int64_t max_tokens_per_micro_batch = 16384;
  double temperature = 1.0, top_p = 1.0, min_p = 0.0;
  std::int64_t top_k = 0;
  std::int64_t max_completion_length = 128;
  std::vector<std::string> reward_functions{"accuracy", "format"};
  std::vector<double> reward_weights;
  std::string scale_rewards = "group";
  std::string recompute = "none";
  std::int64_t kv_cache_tokens = 65536;
  std::int64_t logging_steps = 1, eval_steps = 0;
  std::int64_t save_rollouts_steps = 0;
  PolicyLossConfig loss;
  DataConfig data;
  AugmentConfig augmentation;
  OptimizerConfig optimizer;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("model_name_or_path", model_name_or_path,
            "Hugging Face model folder to start from; also the frozen reference.");
    v.field("output_dir", output_dir, "Run folder.");
    v.field("overwrite_output_dir", overwrite_output_dir, "Replace an existing run folder.");
    v.field("seed", seed, {.min = 0}, "Key of all randomness of the run.");
    v.field("num_train_epochs", num_train_epochs, {.min = 1},
            "Passes over the prompts; max_steps wins when it is set.");
    v.field("max_steps", max_steps, {.min = 0}, "Optimizer steps; 0: by epochs.");
    v.field("prompts_per_step", prompts_per_step, {.min = 1}, "Prompts (groups) per optimizer step.");
    v.field("num_generations", num_generations, {.min = 2, .max = 1024},
            "Answers per prompt; advantages are centred within them.");
    v.field("num_iterations", num_iterations, {.min = 1, .max = 64}, "Optimizer steps on the same answers.");
    v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch, {.min = 16},
            "Token budget of a packed micro-batch; a group above it is split, its prompt repeated.");
    v.field("temperature", temperature, {.min = 0.01, .max = 100.0},
            "Sampling temperature; log-probs are of logits / temperature.");
    v.field("top_p", top_p, {.min = 0.0, .max = 1.0}, "Nucleus sampling.");
    v.field("top_k", top_k, {.min = 0}, "Sample from the k most likely; 0: all.");
    v.field("min_p", min_p, {.min = 0.0, .max = 1.0}, "Least probability as a share of the largest.");
    v.field("max_completion_length", max_completion_length, {.min = 1}, "Longest answer in tokens.");
    v.field("reward_functions", reward_functions, "Their weighted sum is the reward.");
    v.field("reward_weights", reward_weights, "One per function; empty: all 1.");
    v.field("scale_rewards", scale_rewards, Choices{"group", "batch", "none"},
            "Divide centred rewards by the group's std, the batch's, or not (Dr. GRPO).");
    v.field("recompute", recompute, Choices{"none", "full"},
            "full: keep only each stage's input and recompute its graph in backward.");
    v.field("kv_cache_tokens", kv_cache_tokens, {.min = 64}, "Rows of the rollout engine's key/value cache.");
    v.field("logging_steps", logging_steps, {.min = 1}, "Steps between lines of metrics.jsonl.");
    v.field("eval_steps", eval_steps, {.min = 0},
            "Steps between evaluations; the best model by accuracy is kept. 0: only at the end.");
    v.field("save_rollouts_steps", save_rollouts_steps, {.min = 0},
            "Steps between files of completions in rollouts/; 0: none.");
    v.section("loss", loss, "Policy loss.");
    v.section("data", data, "Rows and prompts.");
    v.section("augmentation", augmentation, "Augmentation of training images.");
    v.section("optimizer", optimizer, "AdamW and schedule.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (model_name_or_path.empty()) report("model_name_or_path", "must name a model folder");
    if (data.train_file.empty()) report("data.train_file", "must name a data file");
    if (reward_functions.empty()) report("reward_functions", "must name at least one function");
    for (const std::string& name : reward_functions)
      if (const std::string why = why_not_a_reward_function(name); !why.empty())
        report("reward_functions", why);
    if (!reward_weights.empty() && reward_weights.size() != reward_functions.size())
      report("reward_weights", "must have one weight per reward function");
  }
};

}  // namespace ferro
