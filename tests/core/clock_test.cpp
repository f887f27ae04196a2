#include "core/clock.h"

#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

namespace ferro {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_CASE("a manual clock stands still until advanced") {
  ManualClock clock;
  const Clock::TimePoint start = clock.now();
  CHECK(clock.now() == start);
  CHECK(clock.utc_timestamp() == "1970-01-01T00:00:00.000Z");
  // 2026-01-31T12:00:00Z is 1769860800 seconds after the epoch (date -u -d @1769860800).
  clock.advance(seconds(1769860800) + milliseconds(123));
  CHECK(clock.utc_timestamp() == "2026-01-31T12:00:00.123Z");
  CHECK(clock.now() - start == seconds(1769860800) + milliseconds(123));
}

TEST_CASE("a stopwatch measures on its clock") {
  ManualClock clock;
  const Stopwatch stopwatch(clock);
  clock.advance(milliseconds(1500));
  CHECK(stopwatch.seconds() == Approx(1.5));
}

TEST_CASE("a wait on a manual clock ends when the clock reaches the deadline, not before") {
  ManualClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> ended{false};
  std::jthread waiter([&] {
    std::unique_lock lock(mutex);
    const bool ready = clock.wait_until(lock, changed, Clock::TimePoint(seconds(10)), [] { return false; });
    CHECK_FALSE(ready);
    CHECK(clock.now() >= Clock::TimePoint(seconds(10)));
    CHECK(lock.owns_lock());
    ended = true;
  });
  for (int i = 0; i < 9; ++i) clock.advance(seconds(1));
  CHECK_FALSE(ended);
  clock.advance(seconds(1));
  waiter.join();
  CHECK(ended);
}

TEST_CASE("a wait on a manual clock ends when its condition becomes true") {
  ManualClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::jthread notifier([&] {
    const std::scoped_lock lock(mutex);
    done = true;
    changed.notify_all();
  });
  std::unique_lock lock(mutex);
  CHECK(clock.wait_until(lock, changed, Clock::TimePoint(seconds(10)), [&] { return done; }));
  CHECK(clock.now() < Clock::TimePoint(seconds(10)));
}

TEST_CASE("many waiters on one manual clock all wake, while others come and go") {
  ManualClock clock;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<int> woken{0};
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 8; ++i)
    waiters.emplace_back([&, i] {
      for (int round = 1; round <= 25; ++round) {
        std::unique_lock lock(mutex);
        clock.wait_until(lock, changed, Clock::TimePoint(milliseconds(round * 10 + i)), [] { return false; });
        ++woken;
      }
    });
  while (woken < 8 * 25) {
    clock.advance(milliseconds(1));
    std::this_thread::yield();
  }
  for (std::jthread& waiter : waiters) waiter.join();
  CHECK(clock.now() >= Clock::TimePoint(milliseconds(257)));
}

TEST_CASE("the system clock is monotonic, stamps in UTC and bounds a wait") {
  SystemClock clock;
  const Clock::TimePoint before = clock.now();
  std::mutex mutex;
  std::condition_variable changed;
  std::unique_lock lock(mutex);
  CHECK_FALSE(clock.wait_until(lock, changed, before + milliseconds(2), [] { return false; }));
  CHECK(clock.now() >= before + milliseconds(2));
  CHECK(clock.wait_until(lock, changed, before, [] { return true; }));
  CHECK_THAT(clock.utc_timestamp(), Catch::Matches(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"));
}

}  // namespace ferro
