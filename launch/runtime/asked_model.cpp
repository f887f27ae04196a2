#include "launch/runtime/asked_model.h"

#include <unistd.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "core/error.h"
#include "data/video_frames.h"
#include "model/inspect.h"
#include "model/lora.h"

namespace ferro {
namespace {

class NoImages final : public ImageLoader {
 public:
  std::shared_ptr<const ImageInput> load(const std::filesystem::path& path,
                                         const AugmentKey* /*augment*/) override {
    fail(ErrorCode::kInternal, "no image was announced, but {} is to be loaded", path.string());
  }
};

TrainEnvironment environment_of(const Asking& asking) {
  TrainEnvironment environment;
  environment.make_loader = asking.make_loader;
  if (!environment.make_loader)
    environment.make_loader = [](const ImageProcessorConfig&, const AugmentConfig&, std::size_t) {
      return no_image_loader();
    };
  return environment;
}

std::string names_of(const Question& question) {
  std::string names;
  for (const auto* paths : {&question.images, &question.video_frames})
    for (const std::filesystem::path& path : *paths) names += (names.empty() ? "" : ", ") + path.string();
  return names;
}

Model load_asked(const Asking& asking) {
  Model model = load_model(asking.model, false);
  if (!asking.adapter.empty())
    attach_adapter(model, std::make_shared<LoraAdapter>(load_adapter(asking.adapter, model)), false);
  return model;
}

}  // namespace

std::unique_ptr<ImageLoader> no_image_loader() {
  return std::make_unique<NoImages>();
}

AskedModel::AskedModel(const Asking& asking)
    : model_(load_asked(asking)),
      source_(asking.model, model_.config, asking.data, AugmentConfig{}, environment_of(asking)) {}

std::shared_ptr<const Prompt> AskedModel::prompt(const Question& question) const {
  PromptBuilder::Media media, frames;
  for (const auto& path : question.images) media.push_back(source_.images().load(path, nullptr));
  for (const auto& path : question.video_frames) frames.push_back(source_.images().load(path, nullptr));
  if (!frames.empty())
    media.push_back(video_of_frames(frames,
                                    static_cast<std::int32_t>(model_.config.vision.temporal_patch_size),
                                    question.frames_per_second));
  try {
    return question.rendered ? prompts().build(question.text, std::move(media))
                             : prompts().ask(question.text, std::move(media));
  } catch (const Error& error) {
    if (question.images.empty() && question.video_frames.empty()) throw;
    throw Error(error.code(), names_of(question) + ": " + error.what());
  }
}

void AskedModel::check_cache(std::int64_t tokens, const char* what_to_lower) const {
  constexpr double kGigabyte = 1e9;
  const double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
                        static_cast<double>(::sysconf(_SC_PAGESIZE)),
               needed = static_cast<double>(tokens) * sizeof(float) *
                        static_cast<double>(forward_work(model_.config).cache_values);
  if (tokens <= std::numeric_limits<std::int32_t>::max() && needed <= memory) return;
  fail(ErrorCode::kUsage,
       "prompts and answers of up to {} tokens need {:.1f} GB for keys and values; this machine has {:.1f} "
       "GB: "
       "lower {}",
       tokens, needed / kGigabyte, memory / kGigabyte, what_to_lower);
}

SamplingParams AskedModel::sampling_rules() const {
  SamplingParams rules;
  rules.stop_ids = model_.config.stop_ids();
  rules.banned_ids = banned_ids_of(model_.config);
  return rules;
}

AnswerToken AskedModel::token(std::int32_t id, float logprob) const {
  return {id, logprob, tokenizer().token_bytes(id)};
}

}  // namespace ferro
