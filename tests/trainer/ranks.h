#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "model/dist/communicator.h"
#include "trainer/train.h"

namespace ferro::testing {

/// How a rank ended.
struct RankEnd {
  std::optional<ErrorCode> code;  ///< Empty: well.
  std::string what;
};

/// Runs `job` on every rank of a world of threads, each with its own copy of `environment`.
inline std::vector<RankEnd> on_ranks(int ranks, const TrainEnvironment& environment,
                                     const std::function<void(int rank, TrainEnvironment& own)>& job) {
  const auto world = make_thread_communicators(ranks);
  std::vector<RankEnd> ends(world.size());
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      const auto r = static_cast<std::size_t>(rank);
      TrainEnvironment own = environment;
      own.ranks = world[r].get();
      try {
        job(rank, own);
      } catch (const Error& error) {
        ends[r] = {error.code(), error.what()};
      }
    });
  threads.clear();
  return ends;
}

}  // namespace ferro::testing
