#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/rollout.h"

namespace ferro {

struct SampledToken {
  std::int32_t id = 0;
  float logprob = 0;  ///< Of the distribution the trainer sees: logits / temperature, banned ids masked; not of the truncated one.
};

/// The processors of generate(), in its order (repetition penalty, temperature, top_k, top_p, min_p), as probabilities [V].
/// Golden: generation/sampling.json. `previous`: prompt and answer so far (for the penalty).
std::vector<float> sampling_probabilities(std::span<const float> logits_V, const SamplingParams& params,
                                          std::span<const std::int32_t> previous);

/// A pure function of logits, params and key (seed, sample, epoch, generation, position). `logits_V` is used up.
SampledToken sample_token(std::span<float> logits_V, const SamplingParams& params, std::span<const std::int32_t> previous,
                          std::uint64_t seed, std::int64_t sample_id, std::int64_t epoch, std::int32_t generation, std::int32_t position);

}  // namespace ferro
