#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "data/bpe_trainer.h"
#include "data/chat_template.h"
#include "data/image_processor_config.h"
#include "data/prompt_builder.h"
#include "data/tokenizer.h"
#include "launch/runtime/asked_model.h"
#include "launch/runtime/jobs.h"
#include "model/inspect.h"
#include "model/model_folder.h"
#include "model/random_checkpoint.h"

namespace ferro {
namespace {

/// A folder that is gone again unless everything in it was used.
class ScratchFolder {
 public:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {
    std::filesystem::remove_all(path_);
    create_folders(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Texts of the chat template itself, so that its words are tokens of the vocabulary.
std::vector<std::string> template_texts() {
  const std::vector<Message> turns{
      {"system", {{ContentPart::Kind::kText, "You are a helpful assistant."}}},
      {"user", {{ContentPart::Kind::kImage, {}}, {ContentPart::Kind::kText, "?"}}},
      {"assistant", {{ContentPart::Kind::kText, "<think></think><answer></answer>"}}}};
  return {render_chat(turns, true)};
}

void check_image_geometry(const ModelInitRequest& request, const VisionConfig& vision) {
  const auto unit = request.patch_size * static_cast<std::int32_t>(vision.spatial_merge_size);
  if (request.image_size % unit != 0)
    fail(ErrorCode::kUsage, "--image-size {} is no multiple of --patch {} times the merge of {}",
         request.image_size, request.patch_size, vision.spatial_merge_size);
}

/// The preset with another patch: the attention window keeps its size in patches.
ModelConfig config_of(const ModelInitRequest& request, std::int64_t vocab_size) {
  ModelConfig config = preset_config(request.preset, vocab_size);
  config.vision.window_size = config.vision.window_size / config.vision.patch_size * request.patch_size;
  config.vision.patch_size = request.patch_size;
  check_image_geometry(request, config.vision);
  return config;
}

ImageProcessorConfig image_processor_of(const ModelInitRequest& request, const ModelConfig& config) {
  ImageProcessorConfig images;
  images.patch_size = request.patch_size;
  images.temporal_patch_size = static_cast<std::int32_t>(config.vision.temporal_patch_size);
  images.merge_size = static_cast<std::int32_t>(config.vision.spatial_merge_size);
  images.forced_size = request.image_size;
  images.min_pixels = images.max_pixels = std::int64_t{request.image_size} * request.image_size;
  images.standardize = request.standardize;
  return images;
}

RandomModelOptions weights_of(const ModelInitRequest& request, const std::filesystem::path& companions) {
  return {.seed = request.seed,
          .dtype = config_dtype(request.dtype),
          .max_shard_bytes = request.max_shard_bytes,
          .companions = companions,
          .stop = request.stop};
}

/// What Hugging Face's tokenizer class does not take from tokenizer.json.
std::string tokenizer_config_of(const ModelConfig& config) {
  const nlohmann::ordered_json root = {
      {"tokenizer_class", "Qwen2Tokenizer"},
      {"processor_class", "Qwen2_5_VLProcessor"},
      {"model_max_length", config.text.max_position_embeddings},
      {"bos_token", nullptr},
      {"eos_token", "<|im_end|>"},
      {"pad_token", "<|endoftext|>"},
      {"unk_token", nullptr},
      {"add_bos_token", false},
      {"clean_up_tokenization_spaces", false},
      {"chat_template", chat_template_source()},
  };
  return root.dump(2) + "\n";
}

std::string make_preset(const ModelInitRequest& request) {
  std::vector<std::string> texts = request.texts;
  for (std::string& text : template_texts()) texts.push_back(std::move(text));

  const ScratchFolder scratch(std::filesystem::path(request.out) += ".parts");
  const std::filesystem::path& parts = scratch.path();
  train_tokenizer(texts, request.vocab_size, parts / "tokenizer.json");
  const std::int64_t tokenizer_size = Tokenizer::load(parts / "tokenizer.json").vocab_size();
  const ModelConfig config = config_of(request, tokenizer_size);
  write_file_atomically(parts / "chat_template.json",
                        nlohmann::json{{"chat_template", chat_template_source()}}.dump(2) + "\n");
  write_file_atomically(parts / "tokenizer_config.json", tokenizer_config_of(config));
  image_processor_of(request, config).save(parts / "preprocessor_config.json");
  return write_random_model(request.out, config, weights_of(request, parts));
}

/// Sums of the weights' files, as sha256sum prints them.
std::string checksum_lines(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.size() == 1) return fmt::format("weights sha256 {}\n", sha256_of_file(files[0]));
  std::string lines;
  for (const auto& file : files) lines += sha256_of_file(file) + "  " + file.filename().string() + "\n";
  return lines;
}

/// Whether the tokenizer's placeholders are those of config.json; nothing where there is no tokenizer.
void check_tokenizer(const std::filesystem::path& folder, InspectOutcome& outcome) {
  if (!std::filesystem::exists(folder / "tokenizer.json")) return;
  try {
    const ModelConfig config = ModelConfig::load(folder / "config.json");
    const Tokenizer tokenizer = Tokenizer::load(folder);
    const std::unique_ptr<ImageLoader> none = no_image_loader();
    const PromptBuilder prompts(tokenizer, *none, config.vision_tokens(), {});
    if (tokenizer.vocab_size() > config.text.vocab_size)
      fail(ErrorCode::kData, "the tokenizer has {} tokens, the model {}", tokenizer.vocab_size(),
           config.text.vocab_size);
    outcome.report +=
        fmt::format("text     {} tokens, placeholders as config.json says\n", tokenizer.vocab_size());
  } catch (const Error& error) {
    outcome.report += fmt::format("problem  {}\n", error.what());
    ++outcome.problems;
  }
}

}  // namespace

std::string make_model(const ModelInitRequest& request) {
  const std::string checksum =
      request.like.empty()
          ? make_preset(request)
          : write_random_model(request.out, ModelConfig::load(request.like),
                               weights_of(request, std::filesystem::absolute(request.like).parent_path()));
  // The sum is known from writing.
  return describe_model({request.out, false, false}).report + fmt::format("weights sha256 {}\n", checksum);
}

InspectOutcome describe_model(const InspectRequest& request) {
  Inspection inspection = inspect_model(request.model, request.all_tensors);
  InspectOutcome outcome{std::move(inspection.report), static_cast<std::int64_t>(inspection.problems.size())};
  if (!std::filesystem::is_directory(request.model)) return outcome;
  check_tokenizer(request.model, outcome);
  if (request.checksum) outcome.report += checksum_lines(request.model);
  return outcome;
}

}  // namespace ferro
