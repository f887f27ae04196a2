#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/prompt.h"
#include "model/model_folder.h"

namespace ferro {

struct ScoredAnswer {
  std::vector<std::int32_t> token_ids;
  std::vector<float> logprobs,
      entropies;  ///< Of each token: log-prob at `temperature`, placeholders masked; entropy in nats.
};

/// Log-probs of given answers to a prompt by the trainer's forward pass and head: on the CPU the same bits as
/// the engine's when it sampled them. `answers`: token ids as they were sampled (PromptBuilder::encode_answer
/// for a text).
std::vector<ScoredAnswer> score_answers(const Model& model, const Prompt& prompt,
                                        std::span<const std::vector<std::int32_t>> answers,
                                        double temperature);

}  // namespace ferro
