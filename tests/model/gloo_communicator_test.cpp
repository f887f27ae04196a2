#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "model/dist/gloo_communicator.h"
#include "tests/core/expect_error.h"
#include "tests/model/communicator_conformance.h"

namespace ferro {
namespace {

using namespace std::chrono_literals;
using testing::expect_error;

/// One rank's client of a store that rank 0's holds.
RankEnvironment of_rank(int rank, int world_size, std::uint16_t port) {
  RankEnvironment environment;
  environment.rank = rank;
  environment.world_size = world_size;
  environment.port = port;
  environment.hosts_store = rank == 0;
  return environment;
}

struct Ranks {
  std::vector<std::string> errors;  ///< "" for a rank that ended well.
  std::vector<double> seconds;
};

/// Ranks of one group, each with a store client and sockets of its own, as processes would have.
Ranks on_gloo(int world_size, const std::function<void(Communicator&, int rank)>& body,
              std::chrono::milliseconds collective_timeout = 20s) {
  const auto host = std::make_shared<RankStore>(of_rank(0, world_size, 0), 20s);
  Ranks ranks{std::vector<std::string>(static_cast<std::size_t>(world_size)),
              std::vector<double>(static_cast<std::size_t>(world_size))};
  GlooOptions options;
  options.start_timeout = 20s;
  options.collective_timeout = collective_timeout;
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < world_size; ++rank)
    threads.emplace_back([&, rank] {
      const auto begin = std::chrono::steady_clock::now();
      try {
        auto store =
            rank == 0 ? host : std::make_shared<RankStore>(of_rank(rank, world_size, host->port()), 20s);
        const auto communicator = make_gloo_communicator(store, rank, world_size, options);
        body(*communicator, rank);
      } catch (const Error& error) {
        ranks.errors[static_cast<std::size_t>(rank)] = error.what();
      }
      ranks.seconds[static_cast<std::size_t>(rank)] =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    });
  threads.clear();
  return ranks;
}

TEST_CASE("Gloo communicators of one to four ranks keep the contract") {
  for (const int world_size : {1, 2, 3, 4}) {
    std::vector<std::vector<std::string>> failures(static_cast<std::size_t>(world_size));
    const Ranks ranks = on_gloo(world_size, [&](Communicator& communicator, int rank) {
      failures[static_cast<std::size_t>(rank)] = testing::check_communicator(communicator, at::kCPU, true);
    });
    for (std::size_t rank = 0; rank < failures.size(); ++rank) {
      CHECK(ranks.errors[rank].empty());
      CHECK(failures[rank] == std::vector<std::string>{});
    }
  }
}

TEST_CASE("Gloo and thread communicators sum to the same bits") {
  constexpr int kRanks = 3;
  const auto values_of = [](int rank, at::ScalarType dtype) {
    return at::sin(at::arange(1001, at::kDouble) * (rank + 1)).mul(1e3).to(dtype);
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    at::Tensor by_gloo, by_threads;
    const Ranks ranks = on_gloo(kRanks, [&](Communicator& communicator, int rank) {
      at::Tensor buffer = values_of(rank, dtype);
      communicator.all_reduce_sum(buffer);
      if (rank == 1) by_gloo = buffer;
    });
    for (const std::string& error : ranks.errors) CHECK(error.empty());
    auto communicators = make_thread_communicators(kRanks);
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < kRanks; ++rank)
      threads.emplace_back([&, rank] {
        at::Tensor buffer = values_of(rank, dtype);
        communicators[static_cast<std::size_t>(rank)]->all_reduce_sum(buffer);
        if (rank == 2) by_threads = buffer;
      });
    threads.clear();
    CHECK(by_gloo.equal(by_threads));
  }
}

TEST_CASE("Gloo ranks that disagree all fail, naming both sides") {
  const Ranks operations = on_gloo(2, [](Communicator& communicator, int rank) {
    at::Tensor buffer = at::zeros({4});
    if (rank == 0) communicator.all_reduce_sum(buffer);
    if (rank == 1) communicator.barrier();
  });
  for (const std::string& error : operations.errors)
    CHECK_THAT(error, Catch::Contains("all_reduce_sum") && Catch::Contains("barrier"));
  const Ranks sizes = on_gloo(3, [](Communicator& communicator, int rank) {
    at::Tensor buffer = at::zeros({rank == 2 ? 5 : 4});
    communicator.all_reduce_sum(buffer);
  });
  for (const std::string& error : sizes.errors)
    CHECK_THAT(error, Catch::Contains("rank 2 has 5") && Catch::Contains("rank 0 4"));
}

TEST_CASE("a late Gloo rank is named by the ranks that waited, with the collective and the time") {
  const Ranks ranks = on_gloo(
      3,
      [](Communicator& communicator, int rank) {
        communicator.barrier();
        if (rank == 1) std::this_thread::sleep_for(6s);
        at::Tensor buffer = at::ones({8});
        communicator.all_reduce_sum(buffer);
      },
      2s);
  for (const std::size_t rank : {std::size_t{0}, std::size_t{2}}) {
    CHECK_THAT(ranks.errors[rank], Catch::Contains("collective 2 (all_reduce_sum)") &&
                                       Catch::Contains("rank 1 is at collective 1 barrier"));
    CHECK(ranks.seconds[rank] < ranks.seconds[1]);
  }
  CHECK_FALSE(ranks.errors[1].empty());  // Nobody is left when it wakes up.
}

TEST_CASE("a Gloo rank that leaves releases the others at once") {
  const Ranks ranks = on_gloo(3, [](Communicator& communicator, int rank) {
    if (rank == 1) return;
    communicator.barrier();
  });
  CHECK(ranks.errors[1].empty());
  for (const std::size_t rank : {std::size_t{0}, std::size_t{2}}) {
    CHECK_THAT(ranks.errors[rank], Catch::Contains("rank 1 is at collective 0 start"));
    CHECK(ranks.seconds[rank] < 10);
  }
}

TEST_CASE("a Gloo rank that gives a reason for leaving ends the others with it") {
  for (const int failing : {0, 2}) {
    std::vector<ErrorCode> codes(3);
    const Ranks ranks = on_gloo(3, [&](Communicator& communicator, int rank) {
      try {
        communicator.barrier();
        if (rank == failing) fail(ErrorCode::kOutOfMemory, "no room");
        communicator.barrier();
      } catch (const Error& error) {
        codes[static_cast<std::size_t>(rank)] = error.code();
        communicator.abandon(error);
        throw;
      }
    });
    for (int rank = 0; rank < 3; ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      CHECK(codes[r] == ErrorCode::kOutOfMemory);
      CHECK(ranks.errors[r] == (rank == failing ? "no room" : fmt::format("rank {}: no room", failing)));
      CHECK(ranks.seconds[r] < 5);
    }
  }
}

TEST_CASE("Gloo ranks that cut a buffer differently all fail") {
  const Ranks ranks = on_gloo(2, [](Communicator& communicator, int rank) {
    at::Tensor buffer = at::zeros({4});
    communicator.all_gather(buffer, std::vector<std::int64_t>{0, 2 + rank, 4});
  });
  for (const std::string& error : ranks.errors)
    CHECK_THAT(error, Catch::Contains("cut their buffers differently"));
}

TEST_CASE("a group that has failed refuses further collectives") {
  const Ranks ranks = on_gloo(2, [](Communicator& communicator, int rank) {
    if (rank == 1) return;
    CHECK_THROWS_AS(communicator.barrier(), Error);
    expect_error(ErrorCode::kInternal, [&] { communicator.barrier(); }, {"barrier", "failed"});
  });
  CHECK(ranks.errors[0].empty());
}

}  // namespace
}  // namespace ferro
