#include "core/bounded_queue.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

namespace ferro {

TEST_CASE("a queue gives items in the order they came") {
  BoundedQueue<std::unique_ptr<int>> queue(3);
  for (int i = 0; i < 3; ++i) REQUIRE(queue.push(std::make_unique<int>(i)));
  for (int i = 0; i < 3; ++i) REQUIRE(**queue.pop() == i);
}

TEST_CASE("a closed queue takes nothing more and gives what it has") {
  BoundedQueue<int> queue(2);
  REQUIRE(queue.push(1));
  queue.close();
  queue.close();
  CHECK_FALSE(queue.push(2));
  CHECK(queue.pop() == 1);
  CHECK(queue.pop() == std::nullopt);
}

TEST_CASE("a full queue holds its producer back until there is room") {
  BoundedQueue<int> queue(1);
  std::atomic<int> pushed{0};
  std::jthread producer([&] {
    for (int i = 0; i < 3; ++i)
      if (queue.push(i)) ++pushed;
  });
  for (int i = 0; i < 3; ++i) {
    REQUIRE(queue.pop() == i);
    // At most the popped ones, one in the queue and none beyond.
    CHECK(pushed <= i + 2);
  }
  producer.join();
  CHECK(pushed == 3);
}

TEST_CASE("close() wakes producers at a full queue and consumers at an empty one") {
  BoundedQueue<int> full(1), empty(1);
  REQUIRE(full.push(0));
  std::atomic<int> woken{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { woken += full.push(1) ? 0 : 1; });
    threads.emplace_back([&] { woken += empty.pop() ? 0 : 1; });
  }
  full.close();
  empty.close();
  for (std::jthread& thread : threads) thread.join();
  CHECK(woken == 6);
}

TEST_CASE("with several producers and consumers each item arrives exactly once") {
  constexpr int kProducers = 4, kConsumers = 3, kItems = 2000;
  BoundedQueue<int> queue(7);
  std::vector<std::atomic<int>> seen(kProducers * kItems);
  {
    std::vector<std::jthread> consumers;
    for (int c = 0; c < kConsumers; ++c)
      consumers.emplace_back([&] {
        while (const std::optional<int> item = queue.pop()) ++seen[static_cast<std::size_t>(*item)];
      });
    {
      std::vector<std::jthread> producers;
      for (int p = 0; p < kProducers; ++p)
        producers.emplace_back([&, p] {
          for (int i = 0; i < kItems; ++i)
            if (!queue.push(p * kItems + i)) return;
        });
    }
    queue.close();
  }
  int once = 0;
  for (const std::atomic<int>& count : seen) once += count == 1 ? 1 : 0;
  CHECK(once == kProducers * kItems);
}

}  // namespace ferro
