#include <utility>

#include "core/log.h"
#include "launch/commands.h"
#include "reward/reward_client.h"

// The one source of libferro_services.so.

namespace ferro {
namespace {

std::unique_ptr<Scorer> make_remote_scorer(const RewardClientConfig& config,
                                           const std::vector<std::string>& functions, std::stop_token stop,
                                           Clock& clock) {
  return make_reward_client(config, functions, std::move(stop), clock, make_logger("reward"));
}

}  // namespace
}  // namespace ferro

extern "C" const ferro::ServiceTable* ferro_service_table() {
  static constexpr ferro::ServiceTable kTable{.version = FERRO_VERSION,
                                              .make_remote_scorer = &ferro::make_remote_scorer};
  return &kTable;
}
