#include <cstdlib>
#include <filesystem>
#include <iostream>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/reward/raw_call.h"
#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

const ScoreRequest kOneAnswer{"q", "sad", {"<answer>sad</answer>"}, "7"};

bool has_openssl() {
  return std::system("openssl version >/dev/null 2>&1") == 0;
}

/// Keys and certificates of a day, made by the openssl command: an authority of ours with a server and a
/// client, and a stranger's with a client.
class Certificates {
 public:
  Certificates() {
    authority("ours");
    authority("strangers");
    signed_by("ours", "server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
    signed_by("ours", "elsewhere", "subjectAltName=DNS:elsewhere.example");
    signed_by("ours", "client", "extendedKeyUsage=clientAuth");
    signed_by("strangers", "stranger", "extendedKeyUsage=clientAuth");
  }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

 private:
  void run(const std::string& command) const {
    INFO(command);
    REQUIRE(std::system(
                ("cd '" + folder_.path().string() + "' && " + command + " >/dev/null 2>&1").c_str()) == 0);
  }
  void authority(const std::string& name) const {
    run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=" + name +
        " -keyout " + name + ".key -out " + name + ".pem");
  }
  void signed_by(const std::string& authority, const std::string& name, const std::string& extension) const {
    write_file_atomically(folder_ / (name + ".ext"), extension + "\n");
    run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + name + " -keyout " +
        name + ".key -out " + name + ".csr");
    run("openssl x509 -req -in " + name + ".csr -CA " + authority + ".pem -CAkey " + authority +
        ".key -CAcreateserial -days 1 -extfile " + name + ".ext -out " + name + ".pem");
  }

  ScratchFolder folder_;
};

RewardServiceConfig service_of(const Certificates& made, const std::string& server = "server") {
  RewardServiceConfig config;
  config.tls_certificate_file = made.file(server + ".pem");
  config.tls_key_file = made.file(server + ".key");
  config.tls_client_ca_file = made.file("ours.pem");
  return config;
}

RewardClientConfig client_with(const Certificates& made, const std::string& address,
                               const std::string& name = "client") {
  RewardClientConfig config = client_config({address});
  config.wait_seconds = 0;
  config.tls_ca_file = made.file("ours.pem");
  config.tls_certificate_file = made.file(name + ".pem");
  config.tls_key_file = made.file(name + ".key");
  return config;
}

void expect_refused_at_once(const RewardClientConfig& config, ErrorCode code, Clock& clock) {
  const Stopwatch watch(clock);
  expect_error(code, [&] { client_of(config, kBoth, clock); }, {config.endpoints[0]});
  CHECK(watch.seconds() < 1);
}

}  // namespace

TEST_CASE(
    "with mutual TLS only clients of the named authority are let in, others are refused within a second") {
  if (!has_openssl()) {
    std::cout << "FERRO_SKIPPED: no openssl command\n";
    return;
  }
  const Certificates made;
  RunningService running(service_of(made));
  SystemClock clock;
  const RewardClientConfig good = client_with(made, running.address());
  CHECK(client_of(good, kBoth, clock)->score(kOneAnswer).verdicts[0][0].value == 1.0);

  RewardClientConfig plain = client_config({running.address()});
  plain.wait_seconds = 0;
  expect_refused_at_once(plain, ErrorCode::kUnavailable, clock);
  expect_refused_at_once(client_with(made, running.address(), "stranger"), ErrorCode::kUnavailable, clock);
  // TLS without a certificate of its own: the one that the wire format allows and our settings do not.
  const Stopwatch watch(clock);
  CHECK(
      raw_call(raw_tls_channel(running.address(), read_file(made.file("ours.pem"))), kScoreGroup, "").code ==
      14);
  CHECK(watch.seconds() < 1);
  CHECK(running.service->totals().judged == 1);
  CHECK(running.service->totals().requests == 1);
}

TEST_CASE("a client does not talk to a server of another authority or another name") {
  if (!has_openssl()) {
    std::cout << "FERRO_SKIPPED: no openssl command\n";
    return;
  }
  const Certificates made;
  SystemClock clock;
  RunningService elsewhere(service_of(made, "elsewhere"));
  expect_refused_at_once(client_with(made, elsewhere.address()), ErrorCode::kUnavailable, clock);
  RunningService running(service_of(made));
  RewardClientConfig other = client_with(made, running.address());
  other.tls_ca_file = made.file("strangers.pem");
  expect_refused_at_once(other, ErrorCode::kUnavailable, clock);
  const RunningService without_tls;
  expect_refused_at_once(client_with(made, without_tls.address()), ErrorCode::kUnavailable, clock);
}

TEST_CASE("with TLS and a token both are needed") {
  if (!has_openssl()) {
    std::cout << "FERRO_SKIPPED: no openssl command\n";
    return;
  }
  const Certificates made;
  write_file_atomically(made.file("token"), "right-token");
  write_file_atomically(made.file("other"), "wrong-token");
  RewardServiceConfig config = service_of(made);
  config.token_file = made.file("token");
  RunningService running(config);
  SystemClock clock;
  RewardClientConfig client = client_with(made, running.address());
  expect_refused_at_once(client, ErrorCode::kConfig, clock);
  client.token_file = made.file("other");
  expect_refused_at_once(client, ErrorCode::kConfig, clock);
  client.token_file = made.file("token");
  CHECK(client_of(client, kBoth, clock)->score(kOneAnswer).verdicts[0][0].value == 1.0);
  CHECK(running.service->totals().refused_token == 2);
}

TEST_CASE("a certificate or key that is none stops the service at its start") {
  if (!has_openssl()) {
    std::cout << "FERRO_SKIPPED: no openssl command\n";
    return;
  }
  const Certificates made;
  RewardServiceConfig config = service_of(made);
  config.tls_key_file = made.file("client.key");  // Of another certificate.
  expect_error(ErrorCode::kIo, [&] { RunningService running(config); }, {"certificate"});
  config = service_of(made);
  config.tls_certificate_file = made.file("absent.pem");
  expect_error(ErrorCode::kIo, [&] { RunningService running(config); }, {"absent.pem"});
}

}  // namespace ferro::testing
