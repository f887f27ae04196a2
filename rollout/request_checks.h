#pragma once

#include "data/rollout.h"
#include "model/config.h"
#include "rollout/engine.h"

namespace ferro {

/// Cache rows of one answer: its last token is never fed back.
std::int32_t answer_rows(const SamplingParams& sampling);

/// Refuses what could never run: Error{kConfig} for settings out of range, ids outside the vocabulary and a
/// group larger than the cache or the engine, with the numbers; Error{kData} for a prompt with ids outside
/// the vocabulary.
void check_request(const RolloutRequest& request, const ModelConfig& model, const EngineOptions& options);

}  // namespace ferro
