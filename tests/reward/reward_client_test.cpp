#include "reward/reward_client.h"

#include <chrono>
#include <stop_token>
#include <thread>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/config.h"
#include "reward/bearer_token.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/reward/raw_call.h"
#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

using Names = std::vector<std::string>;
const ScoreRequest kGroup{"q", "sad", {"<answer>sad</answer>", "fear"}, "7"};

bool judged(const GroupVerdicts& group) {
  return group.verdicts.at(0).at(0).value == 1.0 && group.verdicts.at(0).at(1).value == 0.0;
}

RewardServiceConfig listening_on(const std::string& address) {
  RewardServiceConfig config;
  config.listen = address;
  return config;
}

}  // namespace

TEST_CASE("calls go to the services in turn, and pass over one that is down") {
  RunningService first, second;
  const auto remote =
      client_of(client_config({first.address(), dead_address(), second.address()}), kBoth, first.clock);
  for (int i = 0; i < 12; ++i) CHECK(judged(remote->score(kGroup)));
  CHECK(first.service->totals().judged >= 4);
  CHECK(second.service->totals().judged >= 4);
  CHECK(first.service->totals().judged + second.service->totals().judged == 12);
  first.service.reset();
  for (int i = 0; i < 6; ++i) CHECK(judged(remote->score(kGroup)));
}

TEST_CASE("while no service can be reached a group waits, and is judged when one is back") {
  std::optional<RunningService> running(std::in_place);
  const std::string address = running->address();
  SystemClock clock;
  const auto remote = client_of(client_config({address}), kBoth, clock);
  CHECK(judged(remote->score(kGroup)));
  running.reset();
  GroupVerdicts group;
  std::optional<RunningService> again;
  {
    const std::jthread waiting([&] { group = remote->score(kGroup); });
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // Some attempts fail first.
    again.emplace(listening_on(address));
  }
  CHECK(judged(group));
}

TEST_CASE("the wait for a service ends after the stated time, without a value") {
  std::optional<RunningService> running(std::in_place);
  SystemClock clock;
  RewardClientConfig config = client_config({running->address(), dead_address()});
  config.wait_seconds = 0.5;
  const auto remote = client_of(config, kBoth, clock);
  running.reset();
  const Stopwatch watch(clock);
  const GroupVerdicts group = remote->score(kGroup);
  CHECK(watch.seconds() >= 0.5);
  CHECK(watch.seconds() < 10);
  REQUIRE(group.verdicts.size() == 2);
  for (const auto& verdicts : group.verdicts)
    for (const Verdict& verdict : verdicts) {
      CHECK_FALSE(verdict.value.has_value());
      CHECK(verdict.reason == kServiceUnavailable);
    }
}

TEST_CASE("a client without any service to ask fails at its start, after the stated time") {
  SystemClock clock;
  RewardClientConfig config = client_config({dead_address()});
  config.wait_seconds = 0.2;
  expect_error(ErrorCode::kUnavailable, [&] { client_of(config, kBoth, clock); }, {config.endpoints[0]});
}

TEST_CASE("only UNAVAILABLE is asked again: an overloaded service is asked once") {
  GatedScorer gated;
  RewardServiceConfig service_config;
  service_config.max_concurrent_requests = service_config.max_queued_requests = 1;
  RunningService running(service_config, &gated);
  const auto remote = client_of(client_config({running.address()}), {"gated"}, running.clock);
  {
    const std::jthread one([&] { remote->score(kGroup); });
    gated.wait_for_begun(1);
    const std::jthread two([&] { remote->score(kGroup); });
    while (running.service->open_requests() < 2) std::this_thread::yield();
    CHECK(remote->score(kGroup).verdicts[0][0].reason == kServiceOverloaded);
    CHECK(running.service->totals().requests == 3);
    gated.open();
  }
}

TEST_CASE("a client that is told to stop while it waits throws instead of setting the group aside") {
  std::optional<RunningService> running(std::in_place);
  SystemClock clock;
  std::stop_source stop;
  const auto remote = client_of(client_config({running->address()}), kBoth, clock, stop.get_token());
  running.reset();
  const Stopwatch watch(clock);
  const std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stop.request_stop();
  });
  expect_error(ErrorCode::kUnavailable, [&] { remote->score(kGroup); }, {"told to stop"});
  CHECK(watch.seconds() < 10);
}

TEST_CASE("a service that judges by other functions is a wrong configuration") {
  RunningService running;
  for (const Names& names :
       {Names{"accuracy"}, Names{"accuracy", "format", "humour"}, Names{"accuracy", "humour"}})
    expect_error(ErrorCode::kConfig,
                 [&] { client_of(client_config({running.address()}), names, running.clock); },
                 {"accuracy, format", running.address()});
}

TEST_CASE("a service that is replaced by one with other functions is not believed") {
  std::optional<RunningService> running(std::in_place);
  const std::string address = running->address();
  SystemClock clock;
  const auto remote = client_of(client_config({address}), kBoth, clock);
  running.reset();
  RewardServiceConfig other = listening_on(address);
  other.functions = {"format"};
  const RunningService replaced(other);
  const GroupVerdicts group = remote->score(kGroup);
  CHECK_FALSE(group.verdicts.at(0).at(0).value.has_value());
  CHECK(group.verdicts[0][0].reason == kServiceError);
}

TEST_CASE("a bearer token lets in who has it, and is never told") {
  const ScratchFolder folder;
  const std::string secret = "s3cret-0123456789", wrong = "s3cret-0123456780";
  write_file_atomically(folder / "token", secret + "\n");
  write_file_atomically(folder / "wrong", wrong);
  RewardServiceConfig service_config;
  service_config.token_file = (folder / "token").string();
  RunningService running(service_config);
  RewardClientConfig config = client_config({running.address()});
  config.token_file = (folder / "token").string();
  CHECK(judged(client_of(config, kBoth, running.clock)->score(kGroup)));
  const Stopwatch watch(running.clock);
  for (const std::string& token : {std::string(), (folder / "wrong").string()}) {
    config.token_file = token;
    try {
      client_of(config, kBoth, running.clock);
      FAIL_CHECK("was let in");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kConfig);
      CHECK(std::string(error.what()).find("s3cret") == std::string::npos);
    }
  }
  CHECK(watch.seconds() < 1);
  const auto channel = raw_channel(running.address());
  for (const char* method : {kScoreGroup, kReadMetrics})
    for (const std::string& token : {std::string(), wrong, secret.substr(1), secret + "x"}) {
      const RawAnswer answer = raw_call(channel, method, "", {.token = token});
      CHECK(answer.code == 16);  // UNAUTHENTICATED
      CHECK(answer.message.find("s3cret") == std::string::npos);
    }
  CHECK(raw_call(channel, kReadMetrics, "", {.token = secret}).code == 0);
  CHECK(raw_call(channel, kHealthCheck, "").code == 0);  // A probe needs none.
  CHECK(running.service->totals().refused_token == 10);
  CHECK(running.service->totals().judged == 1);
}

TEST_CASE("a token file holds one printable word") {
  const ScratchFolder folder;
  for (const std::string& content :
       {std::string(), std::string(" \n"), std::string("two words"), std::string("a\0b", 3),
        std::string("\xC3\xA9"), std::string(5000, 'a')}) {
    write_file_atomically(folder / "token", content);
    expect_error(ErrorCode::kConfig, [&] { read_bearer_token(folder / "token"); }, {"token"});
  }
  expect_error(ErrorCode::kIo, [&] { read_bearer_token(folder / "absent"); }, {"absent"});
  CHECK(read_bearer_token({}).empty());
  CHECK(carries_token(bearer_header("abc"), "abc"));
  for (const char* header : {"Bearer abd", "Bearer ab", "Bearer abcd", "bearer abc", "Basic abc", ""})
    CHECK_FALSE(carries_token(header, "abc"));
}

TEST_CASE("addresses are host and port, and loopback is known") {
  for (const char* text : {"localhost:1", "127.0.0.1:50061", "127.9.9.9:0", "[::1]:7"}) {
    REQUIRE(parse_endpoint(text));
    CHECK(is_loopback(*parse_endpoint(text)));
    CHECK(parse_endpoint(text)->text() == text);
  }
  for (const char* text : {"0.0.0.0:1", "[::]:1", "example.org:443", "128.0.0.1:1", "[2001:db8::1]:1"}) {
    REQUIRE(parse_endpoint(text));
    CHECK_FALSE(is_loopback(*parse_endpoint(text)));
  }
  for (const char* text : {"", "host", ":1", "host:", "host:x", "host:65536", "host:-1", "::1:1", "[::1]",
                           "[x]:1", "unix:socket", "a b:1", "host:1 ", "dns:///host:1"})
    CHECK_FALSE(parse_endpoint(text));
}

TEST_CASE("settings that do not belong together are refused") {
  const ScratchFolder folder;
  const auto refuses = [&](const std::string& yaml, const std::string& part) {
    write_file_atomically(folder / "service.yaml", yaml);
    expect_error(ErrorCode::kConfig, [&] { load_config<RewardServiceConfig>(folder / "service.yaml", {}); },
                 {part});
  };
  refuses("listen: nowhere\n", "listen");
  refuses("functions: []\n", "functions");
  refuses("functions: [humour]\n", "humour");
  refuses("tls_key_file: a\n", "mutual TLS");
  refuses("listen: 0.0.0.0:1\ntoken_file: t\n", "needs TLS");
  refuses("max_message_bytes: 1000000000\n", "max_queued_bytes");
  refuses("max_concurrent_requests: 0\n", "max_concurrent_requests");
  refuses("listne: x\n", "listen");
}

}  // namespace ferro::testing
