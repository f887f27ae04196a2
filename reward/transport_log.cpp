#include "reward/transport_log.h"

#include <grpc/support/log.h>

#include <atomic>
#include <chrono>
#include <string_view>
#include <utility>

namespace ferro {
namespace {

struct Outlet {
  std::shared_ptr<spdlog::logger> log;
  std::atomic<std::uint64_t> handshakes{0}, messages{0};
  std::atomic<std::int64_t> next_line_ns{0};
};

/// gRPC's hook takes a plain function, so what it needs stands here. Never destroyed: gRPC's threads log
/// until the process ends.
Outlet& outlet() {
  static Outlet* const kOutlet = new Outlet;
  return *kOutlet;
}

void take(gpr_log_func_args* message) {
  Outlet& to = outlet();
  const std::string_view text = message->message;
  if (text.find("andshake failed") != std::string_view::npos) ++to.handshakes;
  const std::uint64_t count = ++to.messages;
  const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
  std::int64_t next = to.next_line_ns.load();
  constexpr std::int64_t kSecond = 1'000'000'000;
  if (now >= next && to.next_line_ns.compare_exchange_strong(next, now + kSecond))
    to.log->warn("transport: {} (message {})", text, count);
}

}  // namespace

void route_transport_log(std::shared_ptr<spdlog::logger> log) {
  outlet().log = std::move(log);
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_set_log_function(take);
}

std::uint64_t refused_handshakes() {
  return outlet().handshakes.load();
}

}  // namespace ferro
