#include "tests/rollout/tiny_model.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/keyed_random.h"
#include "data/bpe_trainer.h"
#include "data/positions.h"
#include "tests/tiny_model.h"

namespace ferro::testing {
namespace {

constexpr std::int32_t kVocabulary = 300, kImageId = 290, kVideoId = 291;

ModelConfig rollout_config() {
  return tiny_config({.vision_width = 32,
                      .vision_inner = 40,
                      .width = 48,
                      .inner = 72,
                      .layers = 3,
                      .mrope_section = {2, 2, 2},
                      .vocabulary = kVocabulary,
                      .tied = true},
                     {.vision_start = 288,
                      .vision_end = 289,
                      .image = kImageId,
                      .video = kVideoId,
                      .begin_and_pad = 280,
                      .end = 282});
}

}  // namespace

Model tiny_model() {
  Model model = random_model(rollout_config(), 7, false);
  // Wider embeddings spread the logits: neighbouring tokens then differ by more than rounding.
  const char* const embedding = "model.embed_tokens.weight";
  model.arena.import_parameter(embedding, model.arena.export_parameter(embedding) * 3);
  return model;
}

const Tokenizer& tiny_tokenizer() {
  static const Tokenizer tokenizer = [] {
    const auto path = std::filesystem::temp_directory_path() /
                      ("ferro_rollout_test_" + std::to_string(::getpid()) + ".json");
    const std::vector<std::string> texts{"the brows are lowered and drawn together",
                                         "the corners of the lips are raised"};
    train_tokenizer(texts, kVocabulary, path);
    Tokenizer loaded = Tokenizer::load(path);
    std::filesystem::remove(path);
    return loaded;
  }();
  return tokenizer;
}

std::shared_ptr<const Prompt> tiny_prompt(std::uint64_t seed, std::int64_t length, bool image,
                                          const ModelConfig& config) {
  KeyedRandom random(seed, RandomPurpose::kTest, {static_cast<std::uint64_t>(length)});
  auto prompt = std::make_shared<Prompt>();
  for (std::int64_t i = 0; i < length; ++i)
    prompt->ids.push_back(static_cast<std::int32_t>(random.below(280)));
  if (image) {
    prompt->images.push_back(random_image(config, 4, 4, random));
    prompt->image_token_begin.push_back(2);
    prompt->ids.insert(prompt->ids.begin() + 2, 4, config.image_token_id);
  }
  prompt->positions = mrope_positions(prompt->ids, prompt->images, config.vision_tokens());
  return prompt;
}

RolloutRequest tiny_request(std::int64_t sample_id, std::shared_ptr<const Prompt> prompt,
                            std::int32_t generations, std::int64_t max_length) {
  RolloutRequest request;
  request.sample_id = sample_id;
  request.num_generations = generations;
  request.prompt = std::move(prompt);
  request.sampling.max_completion_length = max_length;
  request.sampling.banned_ids = {kImageId, kVideoId};
  for (std::int32_t id = 0; id < kVocabulary; id += 10) {
    if (id != kImageId) request.sampling.stop_ids.push_back(id);
  }
  return request;
}

}  // namespace ferro::testing
