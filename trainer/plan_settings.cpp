#include <algorithm>

#include "trainer/memory_plan.h"

// The largest passes that a configuration leads to, from the lengths of its rows.

namespace ferro {
namespace {

// As SampleStream, EvaluationOptions and EngineOptions have them.
constexpr std::int64_t kStepsAhead = 5, kEvaluationRows = 128, kPrefillTokens = 8192, kRunningSequences = 512;

struct Pass {
  std::int64_t tokens = 0, image_tokens = 0;
};

/// Prompts of one prefill: at least one.
Pass prefill_of(std::int64_t prompts, const RowShape& rows) {
  const std::int64_t together =
      std::clamp<std::int64_t>(kPrefillTokens / std::max<std::int64_t>(1, rows.prompt), 1, prompts);
  return {together * rows.prompt, together * rows.image};
}

void add_evaluation(PlanSettings& settings, const DataConfig& data, const RowShape& rows) {
  if (data.eval_file.empty()) return;
  const std::int64_t sequences =
      data.max_eval_rows > 0 ? std::min(kEvaluationRows, data.max_eval_rows) : kEvaluationRows;
  const Pass prefill = prefill_of(sequences, rows);
  settings.eval_sequences = sequences;
  settings.eval_cache_rows = sequences * (rows.prompt + rows.answer);
  settings.eval_prefill_tokens = prefill.tokens;
  settings.eval_prefill_image_tokens = prefill.image_tokens;
}

template <class Config>
PlanSettings common(const Config& config, const RowShape& rows, std::int64_t world_size) {
  PlanSettings settings;
  settings.train = config.train;
  settings.lora = config.lora;
  settings.state_dtype = config.optimizer.state_dtype;
  settings.recompute = config.recompute == "full";
  if (config.ranks.shards_optimizer()) settings.optimizer_ranks = world_size;
  add_evaluation(settings, config.data, rows);
  return settings;
}

}  // namespace

PlanSettings plan_settings(const SftConfig& config, const RowShape& rows, std::int64_t world_size) {
  PlanSettings settings = common(config, rows, world_size);
  const std::int64_t row = rows.prompt + rows.answer;
  const std::int64_t in_step = config.per_device_train_batch_size * config.gradient_accumulation_steps;
  std::int64_t packed = config.per_device_train_batch_size;
  if (config.max_tokens_per_micro_batch > 0)
    packed = std::clamp<std::int64_t>(config.max_tokens_per_micro_batch / row, 1, in_step);
  settings.tokens = packed * row;
  settings.images = rows.image > 0 ? packed : 0;
  settings.image_tokens = packed * rows.image;
  settings.targets = packed * (config.loss_on == "all" ? row - rows.image - 1 : rows.answer);
  settings.prefetched_image_tokens = kStepsAhead * in_step * rows.image;
  return settings;
}

PlanSettings plan_settings(const GrpoConfig& config, const RowShape& rows, std::int64_t world_size) {
  PlanSettings settings = common(config, rows, world_size);
  settings.second_model = config.loss.beta > 0 && !config.lora.enabled();
  const std::int64_t budget = config.max_tokens_per_micro_batch, answers = config.num_generations,
                     group = rows.prompt + answers * rows.answer;
  std::int64_t prompts = std::clamp<std::int64_t>(budget / group, 1, config.prompts_per_step),
               packed_answers = prompts * answers;
  if (group > budget) {
    prompts = 1;
    packed_answers = std::clamp<std::int64_t>((budget - rows.prompt) / rows.answer, 1, answers);
  }
  settings.tokens = prompts * rows.prompt + packed_answers * rows.answer;
  settings.images = rows.image > 0 ? prompts : 0;
  settings.image_tokens = prompts * rows.image;
  settings.targets = packed_answers * rows.answer;
  settings.grouped = true;
  settings.entropy_gradient = config.loss.entropy_coef != 0;
  const std::int64_t asked = config.prompts_per_generation();
  settings.sequences = std::min(std::max(kRunningSequences, answers), asked * answers);
  const std::int64_t together = std::max<std::int64_t>(1, settings.sequences / answers);
  settings.cache_rows = std::min(config.kv_cache_tokens, together * group);
  const Pass prefill = prefill_of(asked, rows);
  settings.prefill_tokens = prefill.tokens;
  settings.prefill_image_tokens = prefill.image_tokens;
  settings.prefetched_image_tokens = kStepsAhead * asked * rows.image;
  return settings;
}

}  // namespace ferro
