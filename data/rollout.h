#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/prompt.h"

namespace ferro {

enum class FinishReason { kStop, kLength, kAborted };

/// One sampled answer. Plain data: the reward service uses it without LibTorch.
struct Completion {
  std::int64_t policy_version =
      0;  ///< Version of the weights that produced it; one completion has one version.
  std::vector<std::int32_t> token_ids;  ///< [C], the stop token included when it stopped.
  std::vector<float> logprobs;  ///< [C] log q(token) at the sampling temperature, banned tokens masked.
  std::string text;             ///< Decoded, special tokens skipped.
  FinishReason finish = FinishReason::kLength;
};

/// Sampling rules of a request; they belong to the request, not to the engine. Defaults: plain sampling.
struct SamplingParams {
  double temperature = 1.0;  ///< 0: greedy (log-probs are then of temperature 1).
  double top_p = 1.0;
  std::int64_t top_k = 0;  ///< 0: off.
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  std::int64_t max_completion_length = 256;
  std::vector<std::int32_t> stop_ids;  ///< Any of them ends an answer (and is part of it).
  std::vector<std::int32_t>
      banned_ids;  ///< Never sampled, and masked out of every log-prob: image and video placeholders.
};

/// One prompt to answer `num_generations` times. (sample_id, epoch, generation) names an answer for ever: it
/// is the key of its randomness and of its result.
struct RolloutRequest {
  std::int64_t sample_id = 0;
  std::int64_t epoch = 0;
  std::int32_t num_generations = 1;
  std::shared_ptr<const Prompt> prompt;
  SamplingParams sampling;
};

/// All answers to one request; the unit that is scored, queued and trained on.
struct RolloutGroup {
  RolloutRequest request;
  std::vector<Completion> completions;  ///< [G], index = generation.
};

}  // namespace ferro
