#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/lora_config.h"
#include "model/trained_parts.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {

/// The rows that a plan assumes, in tokens.
struct RowShape {
  std::int64_t prompt = 0;  ///< Image tokens included.
  std::int64_t image = 0;   ///< Image tokens of a prompt.
  std::int64_t answer = 0;
};

/// What memory depends on beside the model: what is trained, and the largest pass of each kind.
struct PlanSettings {
  TrainedParts train;
  LoraConfig lora;
  std::string state_dtype = "float32";
  std::int64_t optimizer_ranks = 1;  ///< That share the optimizer's moments.
  bool recompute = false;
  bool second_model = false;  ///< A reference with weights of its own.

  /// A micro-batch.
  std::int64_t tokens = 0, images = 0, image_tokens = 0, targets = 0;
  bool grouped = false;  ///< Answers share their prompt's last row, and logits are kept for backward.
  bool entropy_gradient = false;  ///< The loss depends on the entropy.

  /// Sampling: rows of the cache that are used, sequences that run together, prompt tokens of a prefill; all
  /// 0: none.
  std::int64_t cache_rows = 0, sequences = 0, prefill_tokens = 0, prefill_image_tokens = 0;
  /// The same of an evaluation, which has a cache of its own.
  std::int64_t eval_cache_rows = 0, eval_sequences = 0, eval_prefill_tokens = 0,
               eval_prefill_image_tokens = 0;

  std::int64_t prefetched_image_tokens = 0;  ///< Of prompts that are prepared ahead.
};
PlanSettings plan_settings(const SftConfig& config, const RowShape& rows, std::int64_t world_size = 1);
PlanSettings plan_settings(const GrpoConfig& config, const RowShape& rows, std::int64_t world_size = 1);

/// Bytes of one process. fp32, weights in the CPU's panels.
struct MemoryPlan {
  struct Line {
    std::string name;
    std::int64_t bytes = 0;
  };
  std::vector<Line> lasting;  ///< Held from the first step on.
  std::vector<Line> phases;   ///< Each on top of the lasting ones, one at a time; made of `parts`.
  std::vector<Line> parts;    ///< Of the training phase.
  std::int64_t peak() const;
};

/// Computed from shapes alone: nothing of the model's size is allocated. What the program takes before the
/// model (libraries, tokenizer, data rows, pictures in the image cache) is not in it. Error{kConfig} as
/// make_lora.
MemoryPlan plan_memory(const ModelConfig& config, const PlanSettings& settings);

/// A table for people, with the total of `world_size` processes.
std::string describe_plan(const MemoryPlan& plan, const PlanSettings& settings, std::int64_t world_size);

}  // namespace ferro
