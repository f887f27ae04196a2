#include "launch/runtime/rank_group.h"

#include <chrono>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "model/dist/communicator.h"
#include "model/dist/rank_store.h"
#ifdef FERRO_HAS_GLOO
#include "model/dist/gloo_communicator.h"
#endif

namespace ferro {

void on_this_rank(const RanksConfig& config, const TrainEnvironment& environment,
                  const std::function<void(const TrainEnvironment&)>& job) {
  const RankEnvironment place = rank_environment();
  if (place.world_size == 1) {
    job(environment);
    return;
  }
#ifdef FERRO_HAS_GLOO
  GlooOptions options;
  options.address = address_towards(place.address, place.port);
  // An agent's store outlives the processes that it starts again.
  const char* restarts = std::getenv("TORCHELASTIC_RESTART_COUNT");
  options.group = std::string("trainer/") + (restarts == nullptr ? "0" : restarts);
  options.start_timeout = std::chrono::seconds(config.start_timeout_s);
  options.collective_timeout = std::chrono::seconds(config.collective_timeout_s);
  const auto store = std::make_shared<RankStore>(place, options.start_timeout);
  const auto communicator = make_gloo_communicator(store, place.rank, place.world_size, options);
  TrainEnvironment own = environment;
  own.ranks = communicator.get();
  job(own);
#else
  (void)config;
  fail(ErrorCode::kConfig,
       "WORLD_SIZE is {}, and this build of ferro has no Gloo: build with "
       "`cmake --preset release -DFERRO_SERVICES=ON && cmake --build --preset release`",
       place.world_size);
#endif
}

}  // namespace ferro
