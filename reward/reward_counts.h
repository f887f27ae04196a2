#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "reward/scorer.h"

namespace ferro {

/// What a reward service has done since its start.
struct RewardTotals {
  std::uint64_t requests = 0, judged = 0, completions = 0;
  std::uint64_t refused_full = 0, refused_malformed = 0, refused_token = 0, refused_handshakes = 0;
  std::uint64_t expired = 0, failed = 0;
  double seconds_total = 0, seconds_max = 0;                             ///< Of judged groups.
  std::map<std::pair<std::string, std::string>, std::uint64_t> reasons;  ///< By function and reason.

  std::uint64_t refused() const {
    return refused_full + refused_malformed + refused_token + refused_handshakes;
  }
};

/// Why a request was not judged.
enum class RewardRefusal { kFull, kMalformed, kToken, kExpired, kFailed };

/// Adds them up. Thread-safe.
class RewardCounts {
 public:
  void add_request();
  void add_judged(const std::vector<std::string>& functions, const GroupVerdicts& verdicts, double seconds);
  /// Returns how many of this kind there were, this one included.
  std::uint64_t add_refusal(RewardRefusal kind);
  RewardTotals totals() const;

 private:
  mutable std::mutex mutex_;
  RewardTotals totals_;
};

}  // namespace ferro
