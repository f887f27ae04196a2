#include "reward/reward_service.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <iterator>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/bounded_queue.h"
#include "core/error.h"
#include "ferro/v1/reward.grpc.pb.h"
#include "reward/bearer_token.h"
#include "reward/endpoint.h"
#include "reward/reward_wire.h"
#include "reward/transport_log.h"

namespace ferro {
namespace {

using grpc::StatusCode;

int milliseconds(double seconds) {
  return static_cast<int>(std::llround(seconds * 1000));
}

/// A request between its arrival and its answer. All pointers are gRPC's and live until `reactor` finishes.
struct Waiting {
  grpc::CallbackServerContext* context = nullptr;
  const grpc::ByteBuffer* request = nullptr;
  grpc::ByteBuffer* response = nullptr;
  grpc::ServerUnaryReactor* reactor = nullptr;
  Clock::TimePoint arrived;
};

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  text.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices)
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

/// A hostile peer must not fill the disk with lines about itself.
bool worth_a_line(std::uint64_t count) {
  constexpr std::uint64_t kFirst = 8;
  return count <= kFirst || (count & (count - 1)) == 0;
}

std::shared_ptr<grpc::ServerCredentials> credentials_of(const RewardServiceConfig& config) {
  if (!config.tls()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = read_file(config.tls_client_ca_file);
  options.pem_key_cert_pairs.push_back(
      {read_file(config.tls_key_file), read_file(config.tls_certificate_file)});
  return grpc::SslServerCredentials(options);
}

}  // namespace

class RewardService::Impl final {
 public:
  Impl(const RewardServiceConfig& config, Scorer& scorer, const Clock& clock,
       std::shared_ptr<spdlog::logger> log);
  ~Impl();

  std::string address() const { return endpoint_.text(); }
  RewardTotals totals() const;
  std::size_t open_requests() const {
    const std::scoped_lock lock(idle_mutex_);
    return open_requests_;
  }
  void drain();

 private:
  /// The request of ScoreGroup arrives as bytes, so that it is refused or dropped before it is parsed.
  class Methods final : public v1::Reward::WithRawCallbackMethod_ScoreGroup<v1::Reward::CallbackService> {
   public:
    explicit Methods(Impl& owner) : owner_(owner) {}
    grpc::ServerUnaryReactor* ScoreGroup(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override {
      return owner_.admit(context, request, response);
    }
    grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context, const v1::DescribeRequest*,
                                       v1::DescribeResponse* response) override {
      return owner_.describe(context, response);
    }
    grpc::ServerUnaryReactor* ReadMetrics(grpc::CallbackServerContext* context, const v1::ReadMetricsRequest*,
                                          v1::ReadMetricsResponse* response) override {
      return owner_.read_metrics(context, response);
    }

   private:
    Impl& owner_;
  };

  void start();
  grpc::ServerUnaryReactor* admit(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response);
  grpc::ServerUnaryReactor* describe(grpc::CallbackServerContext* context, v1::DescribeResponse* response);
  grpc::ServerUnaryReactor* read_metrics(grpc::CallbackServerContext* context,
                                         v1::ReadMetricsResponse* response);
  bool has_token(const grpc::CallbackServerContext& context) const;
  bool let_in(const grpc::CallbackServerContext& context, grpc::ServerUnaryReactor& reactor);
  grpc::Status refuse(RewardRefusal kind, StatusCode code, const grpc::CallbackServerContext& context,
                      const std::string& why);
  void leave(std::size_t bytes);
  void work() noexcept;
  grpc::Status judge(const Waiting& waiting);

  const RewardServiceConfig config_;
  Scorer& scorer_;
  const Clock& clock_;
  const std::shared_ptr<spdlog::logger> log_;
  const std::string token_;
  Endpoint endpoint_;
  RewardCounts counts_;
  mutable std::mutex idle_mutex_;  ///< Of the next four.
  std::condition_variable idle_;
  std::size_t open_requests_ = 0, open_bytes_ = 0;
  bool draining_ = false;
  BoundedQueue<Waiting> queue_;
  Methods methods_;
  std::vector<std::jthread> workers_;
  std::unique_ptr<grpc::Server> server_;
  std::once_flag drained_;
};

RewardService::Impl::Impl(const RewardServiceConfig& config, Scorer& scorer, const Clock& clock,
                          std::shared_ptr<spdlog::logger> log)
    : config_(config),
      scorer_(scorer),
      clock_(clock),
      log_(std::move(log)),
      token_(read_bearer_token(config.token_file)),
      queue_(static_cast<std::size_t>(config.max_queued_requests)),
      methods_(*this) {
  const auto endpoint = parse_endpoint(config.listen);
  if (!endpoint) fail(ErrorCode::kConfig, "listen: `{}` is not host:port", config.listen);
  endpoint_ = *endpoint;
  start();
  for (std::int64_t i = 0; i < config_.max_concurrent_requests; ++i)
    workers_.emplace_back([this] { work(); });
}

void RewardService::Impl::start() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(endpoint_.text(), credentials_of(config_), &port);
  builder.RegisterService(&methods_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(config_.max_message_bytes));
  // A compressed message can be a thousand times larger than its bytes on the wire.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, milliseconds(config_.handshake_seconds));
  constexpr int kMaxStreams = 1024, kKeepaliveMs = 30'000, kPingIntervalMs = 5'000;
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    server_.reset();
    fail(ErrorCode::kIo,
         "cannot listen on {}: its port is in use, the address is not of this machine, or (with TLS) the "
         "certificate, key or client CA is not one",
         endpoint_.text());
  }
  endpoint_.port = static_cast<std::uint16_t>(port);
}

RewardService::Impl::~Impl() {
  drain();
}

void RewardService::Impl::drain() {
  std::call_once(drained_, [this] {
    server_->GetHealthCheckService()->SetServingStatus(false);
    {
      std::unique_lock lock(idle_mutex_);
      draining_ = true;
      idle_.wait_for(lock, std::chrono::milliseconds(milliseconds(config_.drain_seconds)),
                     [this] { return open_requests_ == 0; });
    }
    // The last answers are on their way, and those who watch the health are told; what is left then is
    // cancelled, which makes the workers pass over it.
    constexpr std::chrono::milliseconds kLastAnswers{500};
    server_->Shutdown(std::chrono::system_clock::now() + kLastAnswers);
    queue_.close();
    workers_.clear();
  });
}

RewardTotals RewardService::Impl::totals() const {
  RewardTotals totals = counts_.totals();
  totals.refused_handshakes = refused_handshakes();
  return totals;
}

bool RewardService::Impl::has_token(const grpc::CallbackServerContext& context) const {
  if (token_.empty()) return true;
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  return begin != end && std::next(begin) == end &&
         carries_token(std::string_view(begin->second.data(), begin->second.size()), token_);
}

/// False: refused, and the call is finished.
bool RewardService::Impl::let_in(const grpc::CallbackServerContext& context,
                                 grpc::ServerUnaryReactor& reactor) {
  if (has_token(context)) return true;
  reactor.Finish(refuse(RewardRefusal::kToken, StatusCode::UNAUTHENTICATED, context,
                        "the bearer token is missing or wrong"));
  return false;
}

grpc::Status RewardService::Impl::refuse(RewardRefusal kind, StatusCode code,
                                         const grpc::CallbackServerContext& context, const std::string& why) {
  const std::uint64_t count = counts_.add_refusal(kind);
  if (worth_a_line(count)) log_->warn("refused {}: {} (number {} of its kind)", context.peer(), why, count);
  return {code, why};
}

grpc::ServerUnaryReactor* RewardService::Impl::admit(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  counts_.add_request();
  if (!let_in(*context, *reactor)) return reactor;
  const std::size_t bytes = request->Length();
  bool has_room = false;
  {
    const std::scoped_lock lock(idle_mutex_);
    if (draining_) {
      reactor->Finish({StatusCode::UNAVAILABLE, "the service is stopping"});
      return reactor;
    }
    has_room = open_bytes_ + bytes <= static_cast<std::size_t>(config_.max_queued_bytes);
    if (has_room) {
      open_bytes_ += bytes;
      ++open_requests_;
    }
  }
  if (!has_room || !queue_.try_push({context, request, response, reactor, clock_.now()})) {
    if (has_room) leave(bytes);
    reactor->Finish(refuse(RewardRefusal::kFull, StatusCode::RESOURCE_EXHAUSTED, *context,
                           "the queue of groups to judge is full"));
  }
  return reactor;
}

grpc::ServerUnaryReactor* RewardService::Impl::describe(grpc::CallbackServerContext* context,
                                                        v1::DescribeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!let_in(*context, *reactor)) return reactor;
  for (const std::string& name : scorer_.function_names()) response->add_functions(name);
  response->set_max_message_bytes(static_cast<std::uint64_t>(config_.max_message_bytes));
  response->set_max_completions(static_cast<std::uint64_t>(config_.max_completions));
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* RewardService::Impl::read_metrics(grpc::CallbackServerContext* context,
                                                            v1::ReadMetricsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!let_in(*context, *reactor)) return reactor;
  *response = to_wire(totals());
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

void RewardService::Impl::leave(std::size_t bytes) {
  const std::scoped_lock lock(idle_mutex_);
  open_bytes_ -= bytes;
  --open_requests_;
  idle_.notify_all();
}

void RewardService::Impl::work() noexcept {
  while (std::optional<Waiting> waiting = queue_.pop()) {
    const std::size_t bytes = waiting->request->Length();
    grpc::Status status;
    try {
      status = judge(*waiting);
    } catch (const std::exception& error) {
      counts_.add_refusal(RewardRefusal::kFailed);
      log_->error("a group was not judged: {}", error.what());
      status = {StatusCode::INTERNAL, "the service failed; its log says why"};
    } catch (...) {
      counts_.add_refusal(RewardRefusal::kFailed);
      log_->error("a group was not judged: an error of an unknown type");
      status = {StatusCode::INTERNAL, "the service failed; its log says why"};
    }
    waiting->reactor->Finish(status);
    leave(bytes);
  }
}

grpc::Status RewardService::Impl::judge(const Waiting& waiting) {
  if (waiting.context->IsCancelled() || waiting.context->deadline() <= std::chrono::system_clock::now()) {
    counts_.add_refusal(RewardRefusal::kExpired);
    return {StatusCode::DEADLINE_EXCEEDED,
            "the deadline passed, or the client left, before the group's turn"};
  }
  std::string why;
  const std::optional<ScoreRequest> request =
      decode_score_request(text_of(*waiting.request), static_cast<std::size_t>(config_.max_completions), why);
  if (!request) return refuse(RewardRefusal::kMalformed, StatusCode::INVALID_ARGUMENT, *waiting.context, why);
  const GroupVerdicts verdicts = scorer_.score(*request);
  const std::string bytes = encode_verdicts(request->key, scorer_.function_names(), verdicts);
  const grpc::Slice slice(bytes);
  *waiting.response = grpc::ByteBuffer(&slice, 1);
  counts_.add_judged(scorer_.function_names(), verdicts,
                     std::chrono::duration<double>(clock_.now() - waiting.arrived).count());
  return grpc::Status::OK;
}

RewardService::RewardService(const RewardServiceConfig& config, Scorer& scorer, const Clock& clock,
                             std::shared_ptr<spdlog::logger> log)
    : impl_(std::make_unique<Impl>(config, scorer, clock, std::move(log))) {}

RewardService::~RewardService() = default;

std::string RewardService::address() const {
  return impl_->address();
}

RewardTotals RewardService::totals() const {
  return impl_->totals();
}

std::size_t RewardService::open_requests() const {
  return impl_->open_requests();
}

void RewardService::drain() {
  impl_->drain();
}

}  // namespace ferro
