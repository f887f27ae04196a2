#include "launch/runtime/asked_model.h"

#include <string>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

/// For questions without an image: no image library is loaded, and none is asked.
class NoImages final : public ImageLoader {
 public:
  std::shared_ptr<const ImageInput> load(const std::filesystem::path& path,
                                         const AugmentKey* /*augment*/) override {
    fail(ErrorCode::kInternal, "no image was announced, but {} is to be loaded", path.string());
  }
};

SystemPrompt system_prompt_of(const std::string& name) {
  if (name == "default") return SystemPrompt::kDefault;
  if (name == "empty") return SystemPrompt::kEmpty;
  if (name == "none") return SystemPrompt::kNone;
  fail(ErrorCode::kUsage, "`{}` is no system prompt: default, empty or none", name);
}

std::unique_ptr<ImageLoader> loader_of(const Asking& asking) {
  if (!asking.make_loader) return std::make_unique<NoImages>();
  constexpr std::size_t kCachedImages = 256;
  return asking.make_loader(ImageProcessorConfig::load(asking.model / "preprocessor_config.json"),
                            AugmentConfig{}, kCachedImages);
}

}  // namespace

AskedModel::AskedModel(const Asking& asking)
    : tokenizer_(Tokenizer::load(asking.model)),
      model_(load_model(asking.model, false)),
      images_(loader_of(asking)) {
  prompts_ =
      std::make_unique<PromptBuilder>(tokenizer_, *images_, model_.config.vision_tokens(),
                                      PromptOptions{.system_prompt = system_prompt_of(asking.system_prompt),
                                                    .question_override = asking.question,
                                                    .max_prompt_length = asking.max_prompt_length});
}

SamplingParams AskedModel::sampling_rules() const {
  SamplingParams rules;
  rules.stop_ids = {model_.config.eos_token_id};
  if (model_.config.pad_token_id != model_.config.eos_token_id)
    rules.stop_ids.push_back(model_.config.pad_token_id);
  rules.banned_ids = {model_.config.image_token_id, model_.config.video_token_id};
  return rules;
}

AnswerToken AskedModel::token(std::int32_t id, float logprob) const {
  return {id, logprob, tokenizer_.token_bytes(id)};
}

}  // namespace ferro
