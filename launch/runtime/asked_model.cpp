#include "launch/runtime/asked_model.h"

#include <memory>

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

TrainEnvironment environment_of(const Asking& asking) {
  TrainEnvironment environment;
  environment.make_loader = asking.make_loader;
  if (!environment.make_loader)
    environment.make_loader = [](const ImageProcessorConfig&, const AugmentConfig&, std::size_t) {
      return std::make_unique<NoImages>();
    };
  return environment;
}

}  // namespace

AskedModel::AskedModel(const Asking& asking)
    : model_(load_model(asking.model, false)),
      source_(asking.model, model_.config, asking.data, AugmentConfig{}, environment_of(asking)) {}

SamplingParams AskedModel::sampling_rules() const {
  SamplingParams rules;
  rules.stop_ids = stop_ids_of(model_.config);
  rules.banned_ids = banned_ids_of(model_.config);
  return rules;
}

AnswerToken AskedModel::token(std::int32_t id, float logprob) const {
  return {id, logprob, tokenizer().token_bytes(id)};
}

}  // namespace ferro
