#include <cstdint>
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
#include "data/tokenizer.h"
#include "launch/runtime/jobs.h"
#include "model/inspect.h"
#include "model/model_folder.h"

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

}  // namespace

std::string make_model(const ModelInitRequest& request) {
  std::vector<std::string> texts = request.texts;
  for (std::string& text : template_texts()) texts.push_back(std::move(text));

  const ScratchFolder scratch(std::filesystem::path(request.out) += ".parts");
  const std::filesystem::path& parts = scratch.path();
  train_tokenizer(texts, request.vocab_size, parts / "tokenizer.json");
  const std::int64_t tokenizer_size = Tokenizer::load(parts / "tokenizer.json").vocab_size();
  const ModelConfig config = config_of(request, tokenizer_size);
  write_file_atomically(parts / "chat_template.json",
                        nlohmann::json{{"chat_template", chat_template_source()}}.dump(2) + "\n");
  image_processor_of(request, config).save(parts / "preprocessor_config.json");

  Model model{config, ParameterArena::allocate(config, true, false), {}};
  initialise(model.arena, model.config, request.seed);
  model.weights = bind_weights(model.config, model.arena);
  save_model(model, request.out, parts);
  return describe_model(request.out, false);
}

std::string describe_model(const std::filesystem::path& folder, bool all_tensors) {
  std::string report = inspect_model(folder, all_tensors);
  if (const auto weights = folder / "model.safetensors"; std::filesystem::exists(weights))
    report += fmt::format("weights sha256 {}\n", sha256_of_file(weights));
  return report;
}

}  // namespace ferro
