#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include <spdlog/logger.h>

#include "core/clock.h"
#include "reward/reward_counts.h"
#include "reward/reward_service_config.h"
#include "reward/scorer.h"

namespace ferro {

/// Answers ferro.v1.Reward (proto/ferro/v1/reward.proto) by a Scorer, with grpc.health.v1.Health and server
/// reflection beside it. Requests wait in one bounded queue and are judged by a fixed number of threads; what
/// is too large, too much or not allowed is refused at once; what expired or whose client is gone is not
/// judged. All public functions are thread-safe.
class RewardService {
 public:
  /// Answers when the constructor returns. `scorer` and `clock` must outlive it. Error{kIo}: the address
  /// cannot be listened on, or a file is unreadable; Error{kConfig}: a token or certificate is not one.
  RewardService(const RewardServiceConfig& config, Scorer& scorer, const Clock& clock,
                std::shared_ptr<spdlog::logger> log);
  RewardService(const RewardService&) = delete;
  RewardService& operator=(const RewardService&) = delete;
  ~RewardService();  ///< drain()

  /// host:port, with the port that was given when 0 was asked for.
  std::string address() const;

  RewardTotals totals() const;

  /// Groups that have been let in and are not answered.
  std::size_t open_requests() const;

  /// Health says NOT_SERVING and new groups are told UNAVAILABLE; what has arrived may finish for
  /// `drain_seconds`, then it is cancelled and the port closed. Waits for a reward function that is running:
  /// none can be interrupted. Idempotent.
  void drain();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ferro
