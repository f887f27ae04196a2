#pragma once

#include <vector>

#include "data/rollout.h"
#include "model/dist/communicator.h"
#include "reward/scorer.h"

namespace ferro {

/// The answers to one prompt with what was said of them.
struct JudgedAnswers {
  std::vector<Completion> completions;
  GroupVerdicts verdicts;
};

/// What the ranks sampled and judged, in rank order, bit for bit: the same on all. A collective.
std::vector<JudgedAnswers> share_answers(std::vector<JudgedAnswers> own, Communicator& world);

/// What the ranks computed for each of their groups: [group][answer][token], in rank order. A collective.
std::vector<std::vector<std::vector<float>>> share_logps(std::vector<std::vector<std::vector<float>>> own,
                                                         Communicator& world);

}  // namespace ferro
