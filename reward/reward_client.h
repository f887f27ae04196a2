#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include <spdlog/logger.h>

#include "core/clock.h"
#include "reward/reward_client_config.h"
#include "reward/scorer.h"

namespace ferro {

// Why a reward service left a verdict without a value. Such an answer was not judged: it is never 0.
inline constexpr const char* kServiceUnavailable = "service_unavailable";  ///< None reached in wait_seconds.
inline constexpr const char* kServiceDeadline = "deadline";                ///< No answer in deadline_seconds.
inline constexpr const char* kServiceOverloaded = "service_overloaded";    ///< RESOURCE_EXHAUSTED.
inline constexpr const char* kServiceRefused =
    "service_refused";  ///< Too large, no right to ask, not understood.
inline constexpr const char* kServiceError = "service_error";  ///< Any other failure, or a wrong answer.

/// A Scorer that asks `ferro-reward` services, each call the next of `config.endpoints` (not empty). One that
/// cannot be reached or is stopping (UNAVAILABLE or CANCELLED, and only these) is passed over for the next;
/// when none can be reached they are asked again after a growing pause, for `wait_seconds` from the call's
/// begin. So a call takes at most wait_seconds + deadline_seconds.
///
/// The constructor asks the first service that answers for its functions, which must be `function_names` in
/// any order. Error{kConfig}: they are not, or the service refused the token; Error{kUnavailable}: no service
/// answered in wait_seconds; Error{kIo}: a file is unreadable. score() throws Error{kUnavailable} when `stop`
/// is requested while it waits for a service: a group must not be set aside because a run ends. `clock` must
/// outlive it. Thread-safe.
std::unique_ptr<Scorer> make_reward_client(const RewardClientConfig& config,
                                           const std::vector<std::string>& function_names,
                                           std::stop_token stop, Clock& clock,
                                           std::shared_ptr<spdlog::logger> log);

}  // namespace ferro
