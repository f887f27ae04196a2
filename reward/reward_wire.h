#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "ferro/v1/reward.pb.h"
#include "reward/reward_counts.h"
#include "reward/scorer.h"

namespace ferro {

v1::ScoreGroupRequest to_wire(const ScoreRequest& request);

/// Reads a ScoreGroupRequest. Empty, with `why` set: it is none, or has more than `max_completions`; that is
/// found before memory is taken for them.
std::optional<ScoreRequest> decode_score_request(const std::string& bytes, std::size_t max_completions,
                                                 std::string& why);

std::string encode_verdicts(const std::string& key, const std::vector<std::string>& functions,
                            const GroupVerdicts& verdicts);

/// The verdicts in the order of `functions`, found by name. Empty, with `why` set: not an answer to `request`
/// by exactly these functions.
std::optional<GroupVerdicts> verdicts_of(const v1::ScoreGroupResponse& response, const ScoreRequest& request,
                                         const std::vector<std::string>& functions, std::string& why);

v1::ReadMetricsResponse to_wire(const RewardTotals& totals);

}  // namespace ferro
