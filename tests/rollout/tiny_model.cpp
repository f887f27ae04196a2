#include "tests/rollout/tiny_model.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/keyed_random.h"
#include "data/bpe_trainer.h"
#include "data/positions.h"

namespace ferro::testing {
namespace {

constexpr std::int32_t kVocabulary = 300, kImageId = 290, kVideoId = 291;

ModelConfig tiny_config() {
  ModelConfig config;
  config.vision.depth = 2;
  config.vision.hidden_size = 32;
  config.vision.intermediate_size = 40;
  config.vision.num_heads = 2;
  config.vision.patch_size = 4;
  config.vision.window_size = 16;
  config.vision.out_hidden_size = 48;
  config.vision.fullatt_block_indexes = {1};
  config.text.vocab_size = kVocabulary;
  config.text.hidden_size = 48;
  config.text.intermediate_size = 72;
  config.text.num_hidden_layers = 3;
  config.text.num_attention_heads = 4;
  config.text.num_key_value_heads = 2;
  config.text.mrope_section = {2, 2, 2};
  config.tie_word_embeddings = true;
  config.image_token_id = kImageId;
  config.video_token_id = kVideoId;
  config.vision_start_token_id = 288;
  config.vision_end_token_id = 289;
  config.bos_token_id = config.pad_token_id = 280;
  config.eos_token_id = 282;
  return config;
}

std::shared_ptr<const ImageInput> tiny_image(KeyedRandom& random, const ModelConfig& config) {
  auto image = std::make_shared<ImageInput>();
  image->grid = {1, 4, 4};
  image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
  image->pixel_values.resize(static_cast<std::size_t>(image->grid.patches() * config.vision.patch_values()));
  for (float& value : image->pixel_values) value = static_cast<float>(random.normal());
  return image;
}

}  // namespace

Model tiny_model() {
  Model model;
  model.config = tiny_config();
  model.arena = ParameterArena::allocate(model.config, true, false);
  initialise(model.arena, model.config, 7);
  // Wider embeddings spread the logits: neighbouring tokens then differ by more than rounding.
  const char* const embedding = "model.embed_tokens.weight";
  model.arena.import_parameter(embedding, model.arena.export_parameter(embedding) * 3);
  model.weights = bind_weights(model.config, model.arena);
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
    prompt->images.push_back(tiny_image(random, config));
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
