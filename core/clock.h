#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace ferro {

/// Time as a dependency, so that tests do not sleep.
class Clock {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;              ///< Monotonic.
  virtual std::string utc_timestamp() const = 0;  ///< RFC 3339, milliseconds, "Z".
  /// Waits until notified with `ready()` true or until `deadline` on this clock. Returns ready().
  virtual bool wait_until(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                          TimePoint deadline, const std::function<bool()>& ready) = 0;
};

/// The machine's clocks. Thread-safe.
class SystemClock final : public Clock {
 public:
  TimePoint now() const override;
  std::string utc_timestamp() const override;
  bool wait_until(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, TimePoint deadline,
                  const std::function<bool()>& ready) override;
};

/// Stands still until advanced. Thread-safe. REQUIRES of advance(): the caller holds no mutex that a waiter
/// waits with.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override;
  std::string utc_timestamp() const override;  ///< 1970-01-01 plus the time advanced.
  bool wait_until(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, TimePoint deadline,
                  const std::function<bool()>& ready) override;
  void advance(Duration by);

 private:
  struct Waiter {
    std::mutex* mutex;
    std::condition_variable* changed;
  };
  std::atomic<std::int64_t> now_ns_{0};
  std::mutex waiters_mutex_;
  std::vector<Waiter*> waiters_;
};

/// Seconds since construction on `clock`.
class Stopwatch {
 public:
  explicit Stopwatch(const Clock& clock) : clock_(clock), start_(clock.now()) {}
  double seconds() const { return std::chrono::duration<double>(clock_.now() - start_).count(); }

 private:
  const Clock& clock_;
  Clock::TimePoint start_;
};

}  // namespace ferro
