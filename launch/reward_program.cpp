#include "launch/reward_program.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <CLI/CLI.hpp>

#include "core/atomic_file.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/error.h"
#include "core/log.h"
#include "launch/parse_options.h"
#include "launch/stop_signals.h"
#include "reward/endpoint.h"
#include "reward/reward_service.h"
#include "reward/scorer.h"
#include "reward/transport_log.h"

namespace ferro {
namespace {

struct RewardOptions {
  std::string config, listen, port_file;
  std::vector<std::string> overrides, functions;
  std::optional<std::int64_t> max_concurrent_requests;
};

void add_options(CLI::App& app, RewardOptions& options) {
  app.set_version_flag("--version", "ferro-reward " FERRO_VERSION);
  app.set_help_flag("-h,--help", "Print this help and exit.");
  app.footer("Settings: docs/reward-service.md. Exit codes: docs/exit-codes.md.");
  app.add_option("-c,--config", options.config, "YAML file with the settings; absent: their defaults.")
      ->check([](const std::string& path) { return path.empty() ? "names no file" : ""; });
  app.add_option("--set", options.overrides, "Set one key over the file: --set drain_seconds=5. Repeatable.")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  app.add_option("--listen", options.listen, "host:port to answer on; port 0: a free one. As --set listen=.");
  app.add_option("--functions", options.functions, "Reward functions, comma separated. As --set functions=.")
      ->delimiter(',');
  app.add_option("--max-concurrent-requests", options.max_concurrent_requests,
                 "Groups judged at the same time. As --set max_concurrent_requests=.");
  app.add_option("--port-file", options.port_file, "File that gets host:port once the service answers.");
}

RewardServiceConfig config_of(const RewardOptions& options) {
  std::vector<std::string> overrides = options.overrides;
  if (!options.listen.empty()) overrides.push_back("listen=\"" + options.listen + "\"");
  if (!options.functions.empty())
    overrides.push_back(fmt::format("functions=[{}]", fmt::join(options.functions, ", ")));
  if (options.max_concurrent_requests)
    overrides.push_back(fmt::format("max_concurrent_requests={}", *options.max_concurrent_requests));
  return load_config<RewardServiceConfig>(options.config, overrides);
}

void warn_of_open_doors(const RewardServiceConfig& config, spdlog::logger& log) {
  const std::optional<Endpoint> endpoint = parse_endpoint(config.listen);
  if (endpoint && !is_loopback(*endpoint) && !config.tls())
    log.warn("{} may be reached from other machines, and without TLS anybody there may ask", config.listen);
}

void log_totals(const RewardTotals& totals, spdlog::logger& log) {
  log.info(
      "{} requests: {} groups judged ({} answers), {} refused, {} expired, {} failed; {:.3f} s a group, "
      "{:.3f} s at most",
      totals.requests, totals.judged, totals.completions, totals.refused(), totals.expired, totals.failed,
      totals.judged == 0 ? 0.0 : totals.seconds_total / static_cast<double>(totals.judged),
      totals.seconds_max);
  for (const auto& [name, count] : totals.reasons) log.info("{}: {} x {}", name.first, count, name.second);
}

/// Ends the process when it is still alive after `seconds`: a reward function that never returns cannot be
/// interrupted.
class LastResort {
 public:
  explicit LastResort(double seconds)
      : thread_([seconds](const std::stop_token& stop) { watch(stop, seconds); }) {}

 private:
  static void watch(const std::stop_token& stop, double seconds) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    changed.wait_for(lock, stop, std::chrono::duration<double>(seconds), [] { return false; });
    if (stop.stop_requested()) return;
    std::fputs("ferro-reward: a reward function is still running; ending without its answer\n", stderr);
    std::_Exit(static_cast<int>(ErrorCode::kInternal));
  }

  std::jthread thread_;
};

void wait_for(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait(lock, stop, [] { return false; });
}

}  // namespace

int run_reward_service(const std::vector<std::string>& arguments) {
  CLI::App app("ferro-reward judges groups of answers for trainers on other processes and machines (gRPC).",
               "ferro-reward");
  RewardOptions options;
  add_options(app, options);
  if (const std::optional<int> exit_code = parse_options(app, arguments)) return *exit_code;

  const RewardServiceConfig config = config_of(options);
  const StopSignals signals("ferro-reward: finishing what has arrived; a second signal ends at once");
  const std::shared_ptr<spdlog::logger> log = make_logger("reward");
  route_transport_log(log);
  warn_of_open_doors(config, *log);
  const SystemClock clock;
  const std::unique_ptr<Scorer> scorer = make_local_scorer(config.functions);
  RewardService service(config, *scorer, clock, log);
  fmt::print("ferro-reward: listening on {}\n", service.address());
  std::fflush(stdout);
  if (!options.port_file.empty()) write_file_atomically(options.port_file, service.address() + "\n");

  wait_for(signals.token());
  constexpr double kGraceSeconds = 5;
  const LastResort last_resort(config.drain_seconds + kGraceSeconds);
  service.drain();
  log_totals(service.totals(), *log);
  return 0;
}

}  // namespace ferro
