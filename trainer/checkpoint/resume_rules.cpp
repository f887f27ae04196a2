#include "trainer/checkpoint/resume_rules.h"

#include <string_view>

namespace ferro {
namespace {

// docs/checkpoints.md holds the same table; a test compares the two.
constexpr ChangeableSetting kChangeable[] = {
    {"model_name_or_path", "another path to the same files"},
    {"output_dir", "the run folder was moved"},
    {"overwrite_output_dir", "nothing"},
    {"num_train_epochs", "the run ends elsewhere; a schedule that falls does so towards the new end"},
    {"max_steps", "the run ends elsewhere; a schedule that falls does so towards the new end"},
    {"logging_steps", "lines of metrics.jsonl"},
    {"eval_steps", "when the model is evaluated"},
    {"eval_on_start", "nothing"},
    {"max_new_tokens", "longest answer in evaluation"},
    {"recompute", "memory and speed"},
    {"kv_cache_tokens", "memory and speed"},
    {"save_rollouts_steps", "files of rollouts/"},
    {"save_steps", "when checkpoints are written"},
    {"save_total_limit", "how many are kept"},
    {"resume_from_checkpoint", "nothing"},
    {"reward_service.", "who judges, by the same functions"},
    {"guard.", "bounds from here on"},
    {"curriculum.save_pass_rates", "lines of pass_rates.jsonl"},
    {"data.train_file", "another path to the same file"},
    {"data.eval_file", "with other content the best model so far no longer counts"},
    {"data.max_eval_rows", "rows of an evaluation"},
    {"data.image_root", "another path to the same images"},
    {"data.image_cache_entries", "memory and speed"},
    {"ranks.", "what a rank holds, how long it waits for others"},
    {"lora.save_merged", "what is saved at the end"},
};

}  // namespace

std::span<const ChangeableSetting> changeable_settings() {
  return kChangeable;
}

bool may_change_on_resume(const std::string& key) {
  for (const ChangeableSetting& setting : kChangeable) {
    const std::string_view path = setting.key;
    if (path.ends_with('.') ? key.starts_with(path) : key == path) return true;
  }
  return false;
}

std::vector<std::string> refused_changes(const std::map<std::string, std::string>& before,
                                         const std::map<std::string, std::string>& now) {
  std::vector<std::string> refused;
  for (const auto& [key, value] : now) {
    const auto old = before.find(key);
    if (old == before.end() || old->second == value || may_change_on_resume(key)) continue;
    refused.push_back(key + ": " + old->second + " -> " + value);
  }
  return refused;
}

}  // namespace ferro
