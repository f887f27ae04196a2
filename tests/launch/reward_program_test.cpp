#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include <catch2/catch.hpp>

#include "core/clock.h"
#include "tests/launch/reward_process.h"
#include "tests/reward/raw_call.h"
#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

using Names = std::vector<std::string>;
const Names kAnyPort{"--listen", "127.0.0.1:0"};

ScoreRequest group(std::size_t answers = 1) {
  return {"q", "sad", Names(answers, "<answer>sad</answer>"), "7"};
}

Names with(Names more) {
  more.insert(more.end(), kAnyPort.begin(), kAnyPort.end());
  return more;
}

bool sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

}  // namespace

TEST_CASE("ferro-reward answers within 50 ms of its start, says where, and ends with 0") {
  const ScratchFolder folder;
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const std::string port_file = (folder / "port").string();
    RewardProcess process(with({"--port-file", port_file}));
    best = std::min(best, process.start_seconds());
    REQUIRE_THAT(process.first_line(), Catch::StartsWith("ferro-reward: listening on 127.0.0.1:"));
    SystemClock clock;
    CHECK(client_of(client_config({process.address()}), kBoth, clock)->score(group()).verdicts[0][0].value ==
          1.0);
    CHECK(read_file(port_file) == process.address() + "\n");
    CHECK(process.end(i % 2 == 0 ? SIGTERM : SIGINT) == 0);
    CHECK_THAT(process.errors(), Catch::Contains("1 groups judged"));
    CHECK_THAT(process.errors(), Catch::Contains("accuracy: 1 x ok"));
  }
  std::printf("ferro-reward: %.1f ms from its start to its first answer's line (best of 5)\n", 1e3 * best);
  if (!sanitized()) CHECK(best < 0.050);
}

TEST_CASE("ferro-reward links neither LibTorch nor OpenCV") {
  if (std::system("ldd --version >/dev/null 2>&1") != 0) {
    std::cout << "FERRO_SKIPPED: no ldd command\n";
    return;
  }
  const std::string program = std::string(FERRO_BINARY_DIR) + "/bin/ferro-reward";
  CHECK(std::system(("ldd '" + program + "' | grep -q libgrpc").c_str()) == 0);
  CHECK(std::system(("ldd '" + program + "' | grep -qiE 'torch|opencv|cuda'").c_str()) != 0);
}

TEST_CASE("what cannot start says why and ends with the code of its kind") {
  RewardProcess first(kAnyPort);
  RewardProcess second({"--listen", first.address()});
  CHECK(second.wait() == 74);
  CHECK_THAT(second.errors(), Catch::Contains(first.address()) && Catch::Contains("in use"));
  struct Case {
    Names arguments;
    int code;
    const char* says;
  };
  for (const Case& wrong : std::vector<Case>{{{"--lisen", "x"}, 64, "--listen"},
                                             {{"extra"}, 64, "--help"},
                                             {{"--listen", "nowhere"}, 78, "listen"},
                                             {{"--functions", "humour"}, 78, "accuracy"},
                                             {{"--set", "drian_seconds=1"}, 78, "drain_seconds"},
                                             {{"-c", "absent.yaml"}, 74, "absent.yaml"},
                                             {{"--set", "token_file=absent"}, 74, "absent"}}) {
    RewardProcess process(wrong.arguments);
    CHECK(process.wait() == wrong.code);
    CHECK_THAT(process.errors(), Catch::Contains(wrong.says));
  }
  RewardProcess help({"--help"});
  CHECK(help.wait() == 0);
}

TEST_CASE("a service that is told to stop finishes what runs, and its client goes to the other one") {
  RewardProcess first(kAnyPort), second(kAnyPort);
  SystemClock clock;
  const auto remote = client_of(client_config({first.address(), second.address()}), kBoth, clock);
  int judged = 0;
  Names others(2);  // Reasons of what was not judged.
  {
    std::vector<std::jthread> threads;
    std::atomic<int> values{0};
    for (std::string& other : others)
      threads.emplace_back([&] {
        for (int i = 0; i < 150; ++i) {
          const Verdict verdict = remote->score(group(64)).verdicts[0][63];
          values += verdict.value == 1.0 ? 1 : 0;
          if (!verdict.value) other = verdict.reason;
        }
      });
    CHECK(first.end(SIGTERM) == 0);
    threads.clear();
    judged = values;
  }
  CHECK(judged == 300);
  CHECK(others == Names(2));
}

TEST_CASE("a service that is killed while it is asked, and started again, loses no verdict") {
  RewardProcess first(kAnyPort);
  const std::string address = first.address();
  SystemClock clock;
  const auto remote = client_of(client_config({address}), kBoth, clock);
  std::atomic<int> values{0};
  {
    const std::jthread asking([&] {
      for (int i = 0; i < 300; ++i) values += remote->score(group(64)).verdicts[0][63].value == 1.0 ? 1 : 0;
    });
    while (values < 20) std::this_thread::yield();
    CHECK(first.end(SIGKILL) == 128 + SIGKILL);
    RewardProcess again({"--listen", address});
    CHECK(again.address() == address);
    while (values < 300) std::this_thread::yield();
  }
  CHECK(values == 300);
}

TEST_CASE("refused connections are counted and logged, and the token appears nowhere") {
  if (std::system("openssl version >/dev/null 2>&1") != 0) {
    std::cout << "FERRO_SKIPPED: no openssl command\n";
    return;
  }
  const ScratchFolder folder;
  const std::string pem = (folder / "own.pem").string(), key = (folder / "own.key").string();
  REQUIRE(std::system(
              ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=own "
               "-addext subjectAltName=IP:127.0.0.1 -keyout '" +
               key + "' -out '" + pem + "' >/dev/null 2>&1")
                  .c_str()) == 0);
  write_file_atomically(folder / "token", "s3cret-token");
  write_file_atomically(folder / "service.yaml", "listen: 127.0.0.1:0\ntls_certificate_file: " + pem +
                                                     "\ntls_key_file: " + key +
                                                     "\ntls_client_ca_file: " + pem +
                                                     "\ntoken_file: " + (folder / "token").string() + "\n");
  RewardProcess process({"-c", (folder / "service.yaml").string()});
  SystemClock clock;
  RewardClientConfig config = client_config({process.address()});
  config.tls_ca_file = config.tls_certificate_file = pem;
  config.tls_key_file = key;
  config.token_file = (folder / "token").string();
  CHECK(client_of(config, kBoth, clock)->score(group()).verdicts[0][0].value == 1.0);
  config.token_file = "";
  CHECK_THROWS(client_of(config, kBoth, clock));
  CHECK(raw_call(raw_channel(process.address()), kScoreGroup, "").code == 14);
  CHECK(process.end(SIGTERM) == 0);
  const std::string log = process.errors();
  CHECK_THAT(log, Catch::Contains("Handshake failed"));
  CHECK_THAT(log, Catch::Contains("refused ipv4:127.0.0.1"));
  CHECK_THAT(log, Catch::Contains("2 refused"));
  CHECK(log.find("s3cret") == std::string::npos);
}

}  // namespace ferro::testing
