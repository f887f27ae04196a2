#include "reward/reward_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "ferro/v1/reward.grpc.pb.h"
#include "reward/bearer_token.h"
#include "reward/reward_wire.h"

namespace ferro {
namespace {

using grpc::StatusCode;

Clock::Duration nanoseconds(double seconds) {
  return Clock::Duration(std::llround(seconds * 1e9));
}

/// Pauses between rounds over all endpoints.
constexpr double kFirstPause = 0.05, kLongestPause = 2.0;

grpc::ChannelArguments channel_arguments() {
  grpc::ChannelArguments arguments;
  // Reconnecting is quick, because retries have pauses of their own; a host that swallows packets is given up
  // after two seconds, a connection that fell silent after fifteen.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(std::numeric_limits<int>::max());
  arguments.SetMaxSendMessageSize(std::numeric_limits<int>::max());
  return arguments;
}

std::shared_ptr<grpc::ChannelCredentials> credentials_of(const RewardClientConfig& config) {
  if (!config.tls()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = read_file(config.tls_ca_file);
  options.pem_private_key = read_file(config.tls_key_file);
  options.pem_cert_chain = read_file(config.tls_certificate_file);
  return grpc::SslCredentials(options);
}

const char* reason_of(StatusCode code) {
  switch (code) {
    case StatusCode::DEADLINE_EXCEEDED:
      return kServiceDeadline;
    case StatusCode::RESOURCE_EXHAUSTED:
      return kServiceOverloaded;
    case StatusCode::INVALID_ARGUMENT:
    case StatusCode::UNAUTHENTICATED:
    case StatusCode::PERMISSION_DENIED:
      return kServiceRefused;
    case StatusCode::CANCELLED:
    case StatusCode::UNAVAILABLE:
      return kServiceUnavailable;
    default:
      return kServiceError;
  }
}

/// Nobody judged, and another try may find somebody. CANCELLED is what gRPC's server makes of a call that
/// reaches it while it closes; this client cancels nothing itself.
bool is_gone(const grpc::Status& status) {
  return status.error_code() == StatusCode::UNAVAILABLE || status.error_code() == StatusCode::CANCELLED;
}

struct Service {
  std::string address;
  std::unique_ptr<v1::Reward::Stub> stub;
};

class RewardClient final : public Scorer {
 public:
  RewardClient(const RewardClientConfig& config, const std::vector<std::string>& function_names,
               std::stop_token stop, Clock& clock, std::shared_ptr<spdlog::logger> log);

  const std::vector<std::string>& function_names() const override { return names_; }
  GroupVerdicts score(const ScoreRequest& request) override;

 private:
  using Call = std::function<grpc::Status(Service&, grpc::ClientContext&)>;

  grpc::Status ask(const Call& call);
  grpc::Status ask_once(Service& service, const Call& call);
  bool pause(double seconds, Clock::TimePoint end);
  void learn_functions();
  bool fits(const ScoreRequest& request) const;
  GroupVerdicts unjudged(const ScoreRequest& request, const char* reason, const std::string& why);

  const RewardClientConfig config_;
  const std::vector<std::string> names_;
  const std::stop_token stop_;
  Clock& clock_;
  const std::shared_ptr<spdlog::logger> log_;
  std::string authorization_;
  std::vector<Service> services_;
  std::atomic<std::size_t> next_{0};
  std::uint64_t max_message_bytes_ = 0, max_completions_ = 0;
};

RewardClient::RewardClient(const RewardClientConfig& config, const std::vector<std::string>& function_names,
                           std::stop_token stop, Clock& clock, std::shared_ptr<spdlog::logger> log)
    : config_(config), names_(function_names), stop_(std::move(stop)), clock_(clock), log_(std::move(log)) {
  if (config_.endpoints.empty()) fail(ErrorCode::kConfig, "a reward client needs at least one endpoint");
  if (const std::string token = read_bearer_token(config_.token_file); !token.empty())
    authorization_ = bearer_header(token);
  const auto credentials = credentials_of(config_);
  for (const std::string& address : config_.endpoints)
    services_.push_back(
        {address, v1::Reward::NewStub(grpc::CreateCustomChannel(address, credentials, channel_arguments()))});
  learn_functions();
}

grpc::Status RewardClient::ask_once(Service& service, const Call& call) {
  grpc::ClientContext context;
  context.set_deadline(
      std::chrono::system_clock::now() +
      std::chrono::duration_cast<std::chrono::system_clock::duration>(nanoseconds(config_.deadline_seconds)));
  if (!authorization_.empty()) context.AddMetadata("authorization", authorization_);
  return call(service, context);
}

/// False: told to stop.
bool RewardClient::pause(double seconds, Clock::TimePoint end) {
  std::mutex mutex;
  std::condition_variable changed;
  const std::stop_callback wake(stop_, [&] {
    const std::scoped_lock lock(mutex);
    changed.notify_all();
  });
  std::unique_lock lock(mutex);
  return !clock_.wait_until(lock, changed, std::min(clock_.now() + nanoseconds(seconds), end),
                            [this] { return stop_.stop_requested(); });
}

grpc::Status RewardClient::ask(const Call& call) {
  const Clock::TimePoint end = clock_.now() + nanoseconds(config_.wait_seconds);
  const std::size_t first = next_++;
  double seconds = kFirstPause;
  for (bool waited = false;; waited = true) {
    grpc::Status status;
    for (std::size_t i = 0; i < services_.size(); ++i) {
      Service& service = services_[(first + i) % services_.size()];
      status = ask_once(service, call);
      if (!is_gone(status)) {
        if (waited) log_->info("reward service {} answers again", service.address);
        return status;
      }
    }
    if (clock_.now() >= end) return status;
    if (!waited)
      log_->warn("no reward service can be reached ({}: {}); waiting for one, at most {} s",
                 services_[(first + services_.size() - 1) % services_.size()].address, status.error_message(),
                 config_.wait_seconds);
    if (!pause(seconds, end))
      fail(ErrorCode::kUnavailable,
           "told to stop while no reward service could be reached (reward_service.endpoints): {}",
           status.error_message());
    seconds = std::min(2 * seconds, kLongestPause);
  }
}

void RewardClient::learn_functions() {
  v1::DescribeResponse answer;
  std::string address;
  const grpc::Status status = ask([&](Service& service, grpc::ClientContext& context) {
    address = service.address;
    return service.stub->Describe(&context, {}, &answer);
  });
  if (status.error_code() == StatusCode::UNAUTHENTICATED)
    fail(ErrorCode::kConfig, "reward service {} refused this client (reward_service.token_file): {}", address,
         status.error_message());
  if (!status.ok())
    fail(ErrorCode::kUnavailable, "reward service {} did not say what it judges by: {} (waited {} s)",
         address, status.error_message(), config_.wait_seconds);
  std::vector<std::string> offered(answer.functions().begin(), answer.functions().end());
  std::vector<std::string> wanted = names_;
  const std::string offered_text = fmt::format("{}", fmt::join(offered, ", "));
  std::sort(offered.begin(), offered.end());
  std::sort(wanted.begin(), wanted.end());
  if (offered != wanted)
    fail(ErrorCode::kConfig,
         "reward_functions are [{}], and the reward service {} judges by [{}]: start it with the same ones",
         fmt::join(names_, ", "), address, offered_text);
  max_message_bytes_ = answer.max_message_bytes();
  max_completions_ = answer.max_completions();
}

bool RewardClient::fits(const ScoreRequest& request) const {
  constexpr std::size_t kFieldBytes = 11;  // Of a tag and a length, at most.
  std::size_t bytes =
      request.key.size() + request.question.size() + request.solution.size() + 3 * kFieldBytes;
  for (const std::string& completion : request.completions) bytes += completion.size() + kFieldBytes;
  return bytes <= max_message_bytes_ && request.completions.size() <= max_completions_;
}

GroupVerdicts RewardClient::unjudged(const ScoreRequest& request, const char* reason,
                                     const std::string& why) {
  log_->warn("group {} was not judged ({}): {}", request.key, reason, why);
  return {std::vector<std::vector<Verdict>>(
      names_.size(), std::vector<Verdict>(request.completions.size(), Verdict{std::nullopt, reason}))};
}

GroupVerdicts RewardClient::score(const ScoreRequest& request) {
  if (!fits(request))
    return unjudged(request, kServiceRefused,
                    fmt::format("larger than the service takes: {} bytes, {} answers", max_message_bytes_,
                                max_completions_));
  const v1::ScoreGroupRequest message = to_wire(request);
  v1::ScoreGroupResponse response;
  const grpc::Status status = ask([&](Service& service, grpc::ClientContext& context) {
    return service.stub->ScoreGroup(&context, message, &response);
  });
  if (!status.ok()) return unjudged(request, reason_of(status.error_code()), status.error_message());
  std::string why;
  std::optional<GroupVerdicts> verdicts = verdicts_of(response, request, names_, why);
  if (!verdicts) return unjudged(request, kServiceError, why);
  return std::move(*verdicts);
}

}  // namespace

std::unique_ptr<Scorer> make_reward_client(const RewardClientConfig& config,
                                           const std::vector<std::string>& function_names,
                                           std::stop_token stop, Clock& clock,
                                           std::shared_ptr<spdlog::logger> log) {
  return std::make_unique<RewardClient>(config, function_names, std::move(stop), clock, std::move(log));
}

}  // namespace ferro
