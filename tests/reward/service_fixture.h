#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include <spdlog/logger.h>

#include "core/clock.h"
#include "reward/reward_client.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"

namespace ferro::testing {

/// The names of the rewards that the published run used.
inline const std::vector<std::string> kBoth{"accuracy", "format"};

/// Judges only while its gate is open: every value is 1.
class GatedScorer final : public Scorer {
 public:
  const std::vector<std::string>& function_names() const override { return names_; }
  GroupVerdicts score(const ScoreRequest& request) override {
    std::unique_lock lock(mutex_);
    seen_.push_back(request.question);
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    return {{std::vector<Verdict>(request.completions.size(), Verdict{1.0, "ok"})}};
  }
  void open() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  /// Returns once `count` groups have been begun.
  void wait_for_begun(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return seen_.size() >= count; });
  }
  /// The questions of the groups begun.
  std::vector<std::string> seen() const {
    const std::scoped_lock lock(mutex_);
    return seen_;
  }

 private:
  const std::vector<std::string> names_{"gated"};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  bool open_ = false;
};

/// Without a sink: says nothing.
inline std::shared_ptr<spdlog::logger> silent_logger() {
  return std::make_shared<spdlog::logger>("silent");
}

/// A service on a free port of this machine.
struct RunningService {
  SystemClock clock;
  std::unique_ptr<Scorer> own;
  std::optional<RewardService> service;

  explicit RunningService(RewardServiceConfig config = {}, Scorer* scorer = nullptr) {
    if (config.listen == RewardServiceConfig{}.listen) config.listen = "127.0.0.1:0";
    if (scorer == nullptr) {
      own = make_local_scorer(config.functions);
      scorer = own.get();
    }
    service.emplace(config, *scorer, clock, silent_logger());
  }
  std::string address() const { return service->address(); }
};

/// Waits little, so that a test that goes wrong ends.
inline RewardClientConfig client_config(std::vector<std::string> endpoints) {
  RewardClientConfig config;
  config.endpoints = std::move(endpoints);
  config.deadline_seconds = 60;
  config.wait_seconds = 30;
  return config;
}

inline std::unique_ptr<Scorer> client_of(const RewardClientConfig& config, std::vector<std::string> functions,
                                         Clock& clock, std::stop_token stop = {}) {
  return make_reward_client(config, functions, std::move(stop), clock, silent_logger());
}

/// A loopback address where nothing answers: its port was free a moment ago.
inline std::string dead_address() {
  RunningService gone;
  return gone.address();
}

}  // namespace ferro::testing
