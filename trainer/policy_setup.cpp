#include "trainer/policy_setup.h"

#include <algorithm>

#include "core/error.h"
#include "model/image_processor.h"
#include "reward/reward_function.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

Dataset load_rows(const DataConfig& data, const std::string& file, RowKind kind, std::int64_t max_rows) {
  return read_dataset(file, kind,
                      {.image_root = data.image_root, .max_rows = static_cast<std::size_t>(max_rows)});
}

}  // namespace

PromptOptions prompt_options_of(const DataConfig& data) {
  PromptOptions options;
  if (data.system_prompt == "default") {
    options.system_prompt = SystemPrompt::kDefault;
  } else if (data.system_prompt == "empty") {
    options.system_prompt = SystemPrompt::kEmpty;
  } else if (data.system_prompt == "none") {
    options.system_prompt = SystemPrompt::kNone;
  } else {
    fail(ErrorCode::kConfig, "data.system_prompt is `{}`; it can be default, empty or none",
         data.system_prompt);
  }
  options.question_override = data.question;
  options.position_rule =
      data.position_rule == "transformers5" ? PositionRule::kTransformers5 : PositionRule::kHub;
  options.max_prompt_length = data.max_prompt_length;
  return options;
}

std::vector<std::int32_t> banned_ids_of(const ModelConfig& config) {
  return {config.image_token_id, config.video_token_id};
}

Dataset load_training_rows(const DataConfig& data, RowKind kind) {
  const RowKind found = detect_row_kind(data.train_file);
  if (kind == RowKind::kSft && found != RowKind::kSft)
    fail(
        ErrorCode::kConfig,
        "data.train_file {} holds no `response` to learn: SFT needs rows with image_path, question, response",
        data.train_file);
  if (kind == RowKind::kRl && found == RowKind::kSft)
    fail(ErrorCode::kConfig,
         "data.train_file {} holds no `solution` to judge by: GRPO needs rows with image_path, problem, "
         "solution",
         data.train_file);
  return load_rows(data, data.train_file, found, data.max_rows);
}

Dataset load_evaluation_rows(const DataConfig& data) {
  return load_rows(data, data.eval_file, detect_row_kind(data.eval_file), data.max_eval_rows);
}

std::string label_of(const Row& row) {
  return std::string(answer_text(row.solution.empty() ? row.response : row.solution));
}

PromptSource::PromptSource(const fs::path& model_folder, const ModelConfig& config, const DataConfig& data,
                           const AugmentConfig& augmentation, const TrainEnvironment& environment)
    : tokenizer_(Tokenizer::load(model_folder)),
      images_(environment.make_loader(load_image_processor(model_folder, config).config, augmentation,
                                      static_cast<std::size_t>(data.image_cache_entries))),
      prompts_(std::make_unique<PromptBuilder>(tokenizer_, *images_, config.vision_tokens(),
                                               prompt_options_of(data))) {}

void check_apart(const fs::path& output_dir, const fs::path& model_folder) {
  const fs::path out = fs::weakly_canonical(fs::absolute(output_dir)),
                 model = fs::weakly_canonical(fs::absolute(model_folder));
  const auto [at, rest] = std::mismatch(out.begin(), out.end(), model.begin(), model.end());
  if (at == out.end())
    fail(ErrorCode::kConfig,
         "output_dir {} contains model_name_or_path {}: the run would replace the model it starts from",
         output_dir.string(), model_folder.string());
}

void nothing_trained(const std::string& file, std::int64_t steps) {
  fail(ErrorCode::kData,
       "{}: none of the rows of {} steps could be used, so nothing was learnt and no model is saved; the run "
       "folder's set_aside.jsonl names each with its reason",
       file, steps);
}

nlohmann::json data_facts(const Dataset& dataset) {
  nlohmann::json set_aside = nlohmann::json::object();
  for (const auto& [reason, count] : dataset.set_aside_counts()) set_aside[reason] = count;
  return {{"path", dataset.path},
          {"sha256", dataset.sha256},
          {"rows", dataset.rows.size()},
          {"set_aside", set_aside}};
}

}  // namespace ferro
