#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

namespace ferro::testing {

/// What came back of a call that was made of bytes.
struct RawAnswer {
  int code = -1;  ///< grpc::StatusCode
  std::string message;
  std::vector<std::string> bytes;  ///< Of each message received.
};

struct RawCallOptions {
  std::chrono::milliseconds deadline{5000};
  std::string token{};      ///< Sent as bearer token when not empty.
  bool gzip = false;        ///< Compress the message.
  int wanted_messages = 1;  ///< Messages to wait for; the call is then cancelled (a watch never ends).
};

/// A plain connection of its own.
std::shared_ptr<grpc::Channel> raw_channel(const std::string& address);

/// The same over TLS, without a certificate of the client's own. `authority`: PEM.
std::shared_ptr<grpc::Channel> raw_tls_channel(const std::string& address, const std::string& authority);

/// Any method, with any bytes as its message; knows no protobuf. Methods of the reward service:
/// "/ferro.v1.Reward/ScoreGroup".
RawAnswer raw_call(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                   const std::string& bytes, const RawCallOptions& options = {});

inline constexpr const char* kScoreGroup = "/ferro.v1.Reward/ScoreGroup";
inline constexpr const char* kReadMetrics = "/ferro.v1.Reward/ReadMetrics";
inline constexpr const char* kHealthCheck = "/grpc.health.v1.Health/Check";
inline constexpr const char* kHealthWatch = "/grpc.health.v1.Health/Watch";
inline constexpr const char* kServing = "\x08\x01";     ///< HealthCheckResponse{status: SERVING}
inline constexpr const char* kNotServing = "\x08\x02";  ///< HealthCheckResponse{status: NOT_SERVING}

}  // namespace ferro::testing
