#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/packing.h"
#include "data/prompt.h"

namespace ferro {

/// A prompt and its answers' ids.
struct AnsweredPrompt {
  std::shared_ptr<const Prompt> prompt;
  std::vector<std::vector<std::int32_t>> answers;
};

/// Which answer a sequence of a packed batch is.
struct AnswerPlace {
  std::size_t group = 0, answer = 0;
};

/// One forward pass: groups packed with their prompts once. Sequence i of `batch` is `answers[i]`.
struct MicroBatch {
  PackedBatch batch;
  std::vector<AnswerPlace> answers;
  std::vector<std::int64_t> offsets;  ///< [sequences + 1] into batch.targets.
};

/// Groups in order, as many as fit `max_tokens` a micro-batch; a group above the budget is split between
/// answers, its prompt repeated in each part (one answer alone may exceed the budget). A pure function of its
/// arguments. Groups without answers are left out.
std::vector<MicroBatch> pack_groups(std::span<const AnsweredPrompt> groups, std::int64_t max_tokens);

}  // namespace ferro
