#include <functional>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "model/dist/communicator.h"
#include "tests/model/communicator_conformance.h"

namespace ferro {
namespace {

/// Runs `body` on every rank at the same time; what each rank threw, as text ("" for nothing).
std::vector<std::string> on_all_ranks(int world_size,
                                      const std::function<void(std::unique_ptr<Communicator>)>& body) {
  auto communicators = make_thread_communicators(world_size);
  std::vector<std::string> errors(static_cast<std::size_t>(world_size));
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < communicators.size(); ++rank)
      threads.emplace_back([&, rank] {
        try {
          body(std::move(communicators[rank]));
        } catch (const Error& error) {
          errors[rank] = error.what();
        }
      });
  }
  return errors;
}

TEST_CASE("thread communicators of one to four ranks keep the contract") {
  for (const int world_size : {1, 2, 3, 4}) {
    std::vector<std::vector<std::string>> failures(static_cast<std::size_t>(world_size));
    const auto errors = on_all_ranks(world_size, [&](std::unique_ptr<Communicator> communicator) {
      const auto rank = static_cast<std::size_t>(communicator->rank());
      failures[rank] = testing::check_communicator(*communicator, at::kCPU, true);
    });
    for (std::size_t rank = 0; rank < failures.size(); ++rank) {
      CHECK(errors[rank].empty());
      CHECK(failures[rank] == std::vector<std::string>{});
    }
  }
}

TEST_CASE("ranks that call different operations all fail, naming both") {
  const auto errors = on_all_ranks(2, [](std::unique_ptr<Communicator> communicator) {
    at::Tensor buffer = at::zeros({4});
    if (communicator->rank() == 0)
      communicator->all_reduce_sum(buffer);
    else
      communicator->barrier();
  });
  for (const std::string& error : errors)
    CHECK_THAT(error, Catch::Contains("all_reduce_sum") && Catch::Contains("barrier"));
}

TEST_CASE("ranks that bring buffers of different size all fail, naming the sizes") {
  const auto errors = on_all_ranks(3, [](std::unique_ptr<Communicator> communicator) {
    at::Tensor buffer = at::zeros({communicator->rank() == 2 ? 5 : 4});
    communicator->all_reduce_sum(buffer);
  });
  for (const std::string& error : errors)
    CHECK_THAT(error, Catch::Contains("rank 2 has 5") && Catch::Contains("rank 0 4"));
}

TEST_CASE("a rank that leaves releases the others with an error that names it") {
  const auto errors = on_all_ranks(3, [](std::unique_ptr<Communicator> communicator) {
    if (communicator->rank() == 1) return;
    communicator->barrier();
  });
  CHECK(errors[1].empty());
  CHECK_THAT(errors[0], Catch::Contains("rank 1 left") && Catch::Contains("barrier"));
  CHECK_THAT(errors[2], Catch::Contains("rank 1 left"));
}

TEST_CASE("a rank that gives a reason for leaving ends the others with it, wherever they are") {
  auto communicators = make_thread_communicators(3);
  std::vector<ErrorCode> codes(3);
  std::vector<std::string> errors(3);
  {
    std::vector<std::jthread> threads;
    for (std::size_t rank = 0; rank < 3; ++rank)
      threads.emplace_back([&, rank] {
        try {
          communicators[rank]->barrier();
          if (rank == 1) fail(ErrorCode::kOutOfMemory, "no room");
          if (rank == 0) communicators[rank]->barrier();
          at::Tensor buffer = at::zeros({4});
          communicators[rank]->all_reduce_sum(buffer);
        } catch (const Error& error) {
          communicators[rank]->abandon(error);
          codes[rank] = error.code();
          errors[rank] = error.what();
        }
      });
  }
  for (std::size_t rank = 0; rank < 3; ++rank) {
    CHECK(codes[rank] == ErrorCode::kOutOfMemory);
    CHECK(errors[rank] == (rank == 1 ? "no room" : "rank 1: no room"));
  }
}

TEST_CASE("ranks that cut a buffer differently all fail") {
  const auto errors = on_all_ranks(2, [](std::unique_ptr<Communicator> communicator) {
    at::Tensor buffer = at::zeros({4});
    communicator->all_gather(buffer, std::vector<std::int64_t>{0, 2 + communicator->rank(), 4});
  });
  for (const std::string& error : errors) CHECK_THAT(error, Catch::Contains("cut their buffers differently"));
}

}  // namespace
}  // namespace ferro
