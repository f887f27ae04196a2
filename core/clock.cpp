#include "core/clock.h"

#include <algorithm>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace ferro {
namespace {

std::string rfc3339(std::chrono::milliseconds since_epoch) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const auto milliseconds = (since_epoch - seconds).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds.count())),
                     milliseconds);
}

}  // namespace

Clock::TimePoint SystemClock::now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

std::string SystemClock::utc_timestamp() const {
  return rfc3339(
      std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()));
}

bool SystemClock::wait_until(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                             TimePoint deadline, const std::function<bool()>& ready) {
  return changed.wait_until(lock, deadline, ready);
}

Clock::TimePoint ManualClock::now() const {
  return TimePoint(Duration(now_ns_.load()));
}

std::string ManualClock::utc_timestamp() const {
  return rfc3339(std::chrono::floor<std::chrono::milliseconds>(now().time_since_epoch()));
}

bool ManualClock::wait_until(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                             TimePoint deadline, const std::function<bool()>& ready) {
  // advance() takes waiters_mutex_ and then a waiter's mutex, so the waiter must hold its own only while it
  // is not entering or leaving the list. Being in the list before the first look at the time is what loses no
  // wake-up.
  Waiter self{lock.mutex(), &changed};
  lock.unlock();
  {
    const std::scoped_lock list_lock(waiters_mutex_);
    waiters_.push_back(&self);
  }
  lock.lock();
  while (!ready() && now() < deadline) changed.wait(lock);
  lock.unlock();
  {
    const std::scoped_lock list_lock(waiters_mutex_);
    waiters_.erase(std::find(waiters_.begin(), waiters_.end(), &self));
  }
  lock.lock();
  return ready();
}

void ManualClock::advance(Duration by) {
  const std::scoped_lock list_lock(waiters_mutex_);
  now_ns_ += by.count();
  for (const Waiter* waiter : waiters_) {
    const std::scoped_lock waiter_lock(*waiter->mutex);
    waiter->changed->notify_all();
  }
}

}  // namespace ferro
