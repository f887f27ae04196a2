#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/dataset_reader.h"
#include "data/image_processor_config.h"
#include "data/prompt_builder.h"
#include "data/rollout.h"
#include "data/tokenizer.h"
#include "model/model_folder.h"
#include "trainer/data_config.h"
#include "trainer/train.h"

namespace ferro {

/// How rows become prompts in this run: the one reading of DataConfig for SFT, GRPO and evaluation.
PromptOptions prompt_options_of(const DataConfig& data);

/// Never sampled and masked out of every log-prob: image and video placeholders. The same list in engine and
/// trainer.
std::vector<std::int32_t> banned_ids_of(const ModelConfig& config);

/// Rows of data.train_file / data.eval_file. Error{kConfig}: the file holds rows of another kind than `kind`
/// (SFT learns responses).
Dataset load_training_rows(const DataConfig& data, RowKind kind);
Dataset load_evaluation_rows(const DataConfig& data);

/// The name of an answer's label in a row: its solution's answer text, or, for rows to learn from, its
/// response's.
std::string label_of(const Row& row);

/// Loader, tokenizer and prompts of a model folder, with and without augmentation. Not movable: its parts
/// point at each other.
class PromptSource {
 public:
  PromptSource(const std::filesystem::path& model_folder, const ModelConfig& config, const DataConfig& data,
               const AugmentConfig& augmentation, const TrainEnvironment& environment);
  PromptSource(const PromptSource&) = delete;
  PromptSource& operator=(const PromptSource&) = delete;
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const PromptBuilder& prompts() const { return *prompts_; }
  ImageLoader& images() const { return *images_; }

 private:
  Tokenizer tokenizer_;
  std::unique_ptr<ImageLoader> images_;
  std::unique_ptr<PromptBuilder> prompts_;
};

/// Error{kConfig} when the run folder would replace, or lies around, the model that the run starts from.
void check_apart(const std::filesystem::path& output_dir, const std::filesystem::path& model_folder);

/// Error{kData}: a run of `steps` steps on `file` ended in which no row could be used.
[[noreturn]] void nothing_trained(const std::string& file, std::int64_t steps);

/// Facts about a data file for provenance.json.
nlohmann::json data_facts(const Dataset& dataset);

}  // namespace ferro
