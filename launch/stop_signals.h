#pragma once

#include <csignal>
#include <stop_token>
#include <thread>

namespace ferro {

/// Turns SIGINT and SIGTERM into a stop request while it lives. Construct it in the main thread before any
/// other thread starts: it blocks both signals, threads inherit that, and a thread of its own takes them from
/// a signalfd, so nothing runs in a signal handler. The first signal requests a stop; the second ends the
/// process at once with 128 + its number, for a job that does not react.
class StopSignals {
 public:
  /// `announcement`: the line that the first signal prints on standard error.
  explicit StopSignals(
      const char* announcement = "ferro: stopping at the next step and saving; a second signal ends at once");
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals();  ///< Unblocks the signals again.

  std::stop_token token() const { return source_.get_token(); }

 private:
  void watch(const std::stop_token& ending) noexcept;

  const char* const announcement_;
  std::stop_source source_;
  sigset_t signals_{}, before_{};
  int signal_descriptor_ = -1, wake_descriptor_ = -1;
  std::jthread watcher_;
};

}  // namespace ferro
