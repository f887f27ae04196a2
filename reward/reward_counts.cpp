#include "reward/reward_counts.h"

#include <algorithm>
#include <cstddef>

#include "core/error.h"

namespace ferro {
namespace {

std::uint64_t& counter_of(RewardTotals& totals, RewardRefusal kind) {
  switch (kind) {
    case RewardRefusal::kFull:
      return totals.refused_full;
    case RewardRefusal::kMalformed:
      return totals.refused_malformed;
    case RewardRefusal::kToken:
      return totals.refused_token;
    case RewardRefusal::kExpired:
      return totals.expired;
    case RewardRefusal::kFailed:
      return totals.failed;
  }
  fail(ErrorCode::kInternal, "no such refusal: {}", static_cast<int>(kind));
}

}  // namespace

void RewardCounts::add_request() {
  const std::scoped_lock lock(mutex_);
  ++totals_.requests;
}

void RewardCounts::add_judged(const std::vector<std::string>& functions, const GroupVerdicts& verdicts,
                              double seconds) {
  const std::scoped_lock lock(mutex_);
  ++totals_.judged;
  totals_.completions += verdicts.verdicts.empty() ? 0 : verdicts.verdicts.front().size();
  totals_.seconds_total += seconds;
  totals_.seconds_max = std::max(totals_.seconds_max, seconds);
  for (std::size_t f = 0; f < verdicts.verdicts.size(); ++f)
    for (const Verdict& verdict : verdicts.verdicts[f]) ++totals_.reasons[{functions[f], verdict.reason}];
}

std::uint64_t RewardCounts::add_refusal(RewardRefusal kind) {
  const std::scoped_lock lock(mutex_);
  return ++counter_of(totals_, kind);
}

RewardTotals RewardCounts::totals() const {
  const std::scoped_lock lock(mutex_);
  return totals_;
}

}  // namespace ferro
