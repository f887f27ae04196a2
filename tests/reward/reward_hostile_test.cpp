#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <string_view>

#include <catch2/catch.hpp>

#include "reward/endpoint.h"
#include "tests/reward/raw_call.h"
#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

/// The start of every HTTP/2 connection, with an empty SETTINGS frame.
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kSettings("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 9);
// A valid request: question "q", solution "sad", one answer "sad".
const std::string kValid("\x12\x01q\x1a\x03sad\x22\x03sad", 13);

std::string random_bytes(std::mt19937& random, std::size_t longest) {
  std::string bytes(random() % (longest + 1), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

/// Half of them are random, half a valid request with some bytes changed, cut or repeated.
std::string malformed(std::mt19937& random) {
  if (random() % 2 == 0) return random_bytes(random, 200);
  std::string bytes = kValid;
  for (auto changes = 1 + random() % 4; changes > 0; --changes) {
    const std::size_t at = random() % bytes.size();
    if (random() % 4 == 0) bytes.resize(at + 1);
    bytes[at] = static_cast<char>(random());
    if (random() % 8 == 0) bytes += bytes;
  }
  return bytes;
}

class Socket {
 public:
  explicit Socket(const std::string& address) : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(parse_endpoint(address)->port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(descriptor_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { close(descriptor_); }

  void send_bytes(std::string_view bytes) const {
    // A peer that has closed already is no failure of the test.
    [[maybe_unused]] const ssize_t sent = send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  /// True: the other side closed within `seconds`, whatever it sent before.
  bool is_closed_within(int seconds) const {
    const timeval limit{seconds, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char buffer[4096];
    for (;;) {
      const ssize_t received = recv(descriptor_, buffer, sizeof buffer, 0);
      if (received == 0) return true;
      if (received < 0) return errno != EAGAIN && errno != EWOULDBLOCK;
    }
  }

 private:
  int descriptor_;
};

void check_answers(const RunningService& running) {
  const RawAnswer answer = raw_call(raw_channel(running.address()), kScoreGroup, kValid);
  CHECK(answer.code == 0);
  REQUIRE(answer.bytes.size() == 1);
  CHECK_THAT(answer.bytes[0], Catch::Contains("accuracy") && Catch::Contains("ok"));
}

}  // namespace

TEST_CASE("ten thousand malformed messages are refused one by one, and the service answers") {
  RunningService running;
  const auto channel = raw_channel(running.address());
  std::mt19937 random(7);
  std::uint64_t judged = 0, refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    const int code = raw_call(channel, kScoreGroup, malformed(random)).code;
    judged += code == 0 ? 1 : 0;   // Some random bytes are a request.
    refused += code == 3 ? 1 : 0;  // INVALID_ARGUMENT
  }
  CHECK(judged + refused == 10'000);
  CHECK(refused > 4'000);
  const RewardTotals totals = running.service->totals();
  CHECK(totals.requests == 10'000);
  CHECK(totals.judged == judged);
  CHECK(totals.refused_malformed == refused);
  check_answers(running);
}

TEST_CASE("random bytes on the port, alone or after a good beginning, leave the service answering") {
  RunningService running;
  std::mt19937 random(8);
  for (int i = 0; i < 600; ++i) {
    const Socket socket(running.address());
    std::string bytes;
    if (i % 3 != 0) bytes = std::string(kPreface);
    if (i % 3 == 2) bytes += kSettings;
    socket.send_bytes(bytes + random_bytes(random, 400));
    if (i % 100 == 0) check_answers(running);
  }
  check_answers(running);
}

TEST_CASE("connections that say nothing, or stop in the middle, are closed while others are served") {
  RewardServiceConfig config;
  config.handshake_seconds = 1;
  RunningService running(config);
  std::vector<std::unique_ptr<Socket>> silent;
  for (int i = 0; i < 100; ++i) {
    silent.push_back(std::make_unique<Socket>(running.address()));
    if (i % 2 == 1) silent.back()->send_bytes(kPreface.substr(0, 10));
  }
  check_answers(running);
  CHECK(std::all_of(silent.begin(), silent.end(),
                    [](const auto& socket) { return socket->is_closed_within(20); }));
  // A stream whose headers came and whose message never does: HEADERS frame without END_STREAM, indexed
  // fields :method POST, :scheme http, then :path and content-type as literals.
  const Socket half_open(running.address());
  const std::string path = "/ferro.v1.Reward/ScoreGroup", type = "application/grpc";
  std::string block("\x83\x86\x04", 3);
  block += static_cast<char>(path.size());
  block += path;
  block += std::string("\x0f\x10", 2) + static_cast<char>(type.size()) + type;
  const std::string frame_head{'\0', '\0',  static_cast<char>(block.size()), '\x01', '\x04', '\0', '\0',
                               '\0', '\x01'};
  half_open.send_bytes(std::string(kPreface) + kSettings + frame_head + block);
  check_answers(running);
  // A call that was answered is closed a moment after its client has the answer; the half open one never
  // counts.
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (running.service->open_requests() != 0 && std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(running.service->open_requests() == 0);
  running.service->drain();  // Is not held up by it.
  CHECK(half_open.is_closed_within(20));
}

}  // namespace ferro::testing
