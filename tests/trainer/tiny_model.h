#pragma once

#include <memory>
#include <vector>

#include "core/keyed_random.h"
#include "data/packing.h"
#include "tests/tiny_model.h"

namespace ferro::testing {

/// Some text, one image, some text. `key` picks tokens and pixels.
inline std::shared_ptr<const Prompt> random_prompt(const ModelConfig& config, std::uint64_t key,
                                                   std::int32_t text_tokens) {
  KeyedRandom random(8, RandomPurpose::kTest, {key});
  auto prompt = std::make_shared<Prompt>();
  const auto add_text = [&](std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i)
      prompt->ids.push_back(static_cast<std::int32_t>(random.below(190)));
  };
  add_text(text_tokens);
  KeyedRandom pixels(7, RandomPurpose::kTest, {key});
  prompt->images.push_back(random_image(config, 4, 6, pixels));
  prompt->ids.push_back(config.vision_start_token_id);
  prompt->image_token_begin.push_back(static_cast<std::int32_t>(prompt->ids.size()));
  prompt->ids.insert(prompt->ids.end(), 6, config.image_token_id);
  prompt->ids.push_back(config.vision_end_token_id);
  add_text(text_tokens);
  prompt->positions = mrope_positions(prompt->ids, prompt->images, config.vision_tokens());
  return prompt;
}

inline std::vector<std::int32_t> random_answer(std::uint64_t key, std::int64_t length) {
  KeyedRandom random(9, RandomPurpose::kTest, {key});
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<std::int32_t>(random.below(190)));
  return ids;
}

/// One batch of three rows, each with a picture and an answer.
inline std::vector<PackedBatch> random_batches(const ModelConfig& config) {
  BatchPacker packer;
  for (std::uint64_t i = 0; i < 3; ++i)
    packer.add_row(*random_prompt(config, i, 4), random_answer(i, 9), false, config.vision_tokens());
  return {packer.finish()};
}

}  // namespace ferro::testing
