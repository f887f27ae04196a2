#pragma once

#include <cstdint>
#include <memory>

#include "data/prompt.h"
#include "data/rollout.h"
#include "data/tokenizer.h"
#include "model/model_folder.h"

namespace ferro::testing {

/// Random weights, vision tower included; 300 ids, of which 290 is the image and 291 the video placeholder.
Model tiny_model();

/// Trained on a few words, 300 ids.
const Tokenizer& tiny_tokenizer();

/// `length` ids drawn by `seed`; with an image of 4 x 4 patches after the second id.
std::shared_ptr<const Prompt> tiny_prompt(std::uint64_t seed, std::int64_t length, bool image,
                                          const ModelConfig& config);

/// Plain sampling of up to `max_length` tokens, placeholders banned, a tenth of the vocabulary stopping an
/// answer.
RolloutRequest tiny_request(std::int64_t sample_id, std::shared_ptr<const Prompt> prompt,
                            std::int32_t generations, std::int64_t max_length);

}  // namespace ferro::testing
