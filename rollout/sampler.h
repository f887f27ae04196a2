#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/rollout.h"
#include "model/aten.h"

namespace ferro {

struct SampledToken {
  std::int32_t id = 0;
  float logprob = 0;  ///< Of the distribution the trainer sees: logits / temperature, banned ids masked; not
                      ///< of the truncated one.
};

/// The processors of generate(), in its order (repetition penalty, banned ids, temperature, top_k, top_p,
/// min_p), as probabilities [V]. Golden: generation/sampling.json. Temperature 0: all on the largest.
/// `previous`: prompt and answer so far (for the penalty).
std::vector<float> sampling_probabilities(std::span<const float> logits_V, const SamplingParams& params,
                                          std::span<const std::int32_t> previous);

/// The id at which the running sum of `weights` (in id order, none negative) passes `uniform` times their
/// total. Ids of weight 0 are never drawn. `uniform` in [0, 1).
std::int32_t draw(std::span<const float> weights, double uniform);

/// What one draw is a pure function of, beside the logits. The spans must outlive the call.
struct SamplingRow {
  const SamplingParams* params = nullptr;
  std::span<const std::int32_t> prompt, answer;  ///< Tokens before this one (for the penalty).
  std::int64_t sample_id = 0, epoch = 0;
  std::int32_t generation = 0;
  std::int32_t position = 0;  ///< Number of the token within its answer, from 0.
};

/// One token for each row of logits_NV (fp32, used up). A row's token and log-prob depend on that row alone.
/// Error{kDivergence}: logits that are not finite.
std::vector<SampledToken> sample_rows(at::Tensor logits_NV, std::span<const SamplingRow> rows,
                                      std::uint64_t seed);

/// The same for one row. `logits_V` is used up.
SampledToken sample_token(std::span<float> logits_V, const SamplingParams& params,
                          std::span<const std::int32_t> previous, std::uint64_t seed, std::int64_t sample_id,
                          std::int64_t epoch, std::int32_t generation, std::int32_t position);

}  // namespace ferro
