#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <stop_token>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "launch/stop_signals.h"

namespace ferro {
namespace {

/// Blocks until the token's stop is requested.
void wait_for_stop(const std::stop_token& token) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait(lock, token, [] { return false; });
}

TEST_CASE("SIGTERM becomes a stop request, once per life of the watcher") {
  for (const int signal : {SIGTERM, SIGINT}) {
    StopSignals signals;
    CHECK_FALSE(signals.token().stop_requested());
    kill(getpid(), signal);
    wait_for_stop(signals.token());
    CHECK(signals.token().stop_requested());
  }
}

TEST_CASE("the signals are as before when the watcher has gone") {
  sigset_t before{}, after{};
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  { const StopSignals signals; }
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  CHECK(sigismember(&before, SIGTERM) == sigismember(&after, SIGTERM));
}

}  // namespace
}  // namespace ferro
