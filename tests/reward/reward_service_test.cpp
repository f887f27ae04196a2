#include "reward/reward_service.h"

#include <atomic>
#include <chrono>
#include <random>
#include <stdexcept>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"
#include "tests/reward/raw_call.h"
#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

using Names = std::vector<std::string>;

/// Pieces of answers in random order, with bytes that are no UTF-8 and NULs between them.
std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> kPieces{"<think>",
                                                "</think>",
                                                "<answer>",
                                                "</answer>",
                                                "sad",
                                                "happy",
                                                " ",
                                                "\n",
                                                "\xFF",
                                                "\xC3",
                                                "\xED\xA0\x80",
                                                std::string(1, '\0'),
                                                "\xE3\x80\x80",
                                                "<think>x</think><answer>sad</answer>",
                                                "",
                                                "\xF0\x9F\x98\x80"};
  std::string text;
  for (auto pieces = random() % 8; pieces > 0; --pieces) text += kPieces[random() % kPieces.size()];
  return text;
}

ScoreRequest random_request(std::mt19937& random, int number) {
  ScoreRequest request{random_text(random), random_text(random), {}, std::to_string(number)};
  for (auto answers = random() % 9; answers > 0; --answers)
    request.completions.push_back(random_text(random));
  return request;
}

bool same(const GroupVerdicts& a, const GroupVerdicts& b) {
  if (a.verdicts.size() != b.verdicts.size()) return false;
  for (std::size_t f = 0; f < a.verdicts.size(); ++f) {
    if (a.verdicts[f].size() != b.verdicts[f].size()) return false;
    for (std::size_t g = 0; g < a.verdicts[f].size(); ++g)
      if (a.verdicts[f][g].value != b.verdicts[f][g].value ||
          a.verdicts[f][g].reason != b.verdicts[f][g].reason)
        return false;
  }
  return true;
}

void check_unjudged(const GroupVerdicts& group, std::size_t functions, std::size_t answers,
                    const std::string& reason) {
  REQUIRE(group.verdicts.size() == functions);
  for (const auto& verdicts : group.verdicts) {
    REQUIRE(verdicts.size() == answers);
    for (const Verdict& verdict : verdicts) {
      CHECK_FALSE(verdict.value.has_value());
      CHECK(verdict.reason == reason);
    }
  }
}

RewardServiceConfig gated_config(std::int64_t threads, std::int64_t queued) {
  RewardServiceConfig config;
  config.max_concurrent_requests = threads;
  config.max_queued_requests = queued;
  return config;
}

Verdict sometimes_throws(const RewardInput& input) {
  if (input.completion == "odd") throw std::runtime_error("odd");
  return {0.25, "quarter"};
}

class BrokenScorer final : public Scorer {
 public:
  const Names& function_names() const override { return names_; }
  GroupVerdicts score(const ScoreRequest& request) override {
    if (request.question == "throw") throw std::runtime_error("no disk");
    if (request.question == "other") throw 7;
    return {
        {std::vector<Verdict>(request.question == "short" ? 0 : request.completions.size(), {1.0, "ok"})}};
  }

 private:
  Names names_{"broken"};
};

}  // namespace

TEST_CASE("a service judges as the scorer in this process does, whatever the bytes") {
  RunningService running;
  const auto local = make_local_scorer(kBoth),
             remote = client_of(client_config({running.address()}), kBoth, running.clock);
  CHECK(remote->function_names() == kBoth);
  std::mt19937 random(1);
  int judged_right = 0;
  for (int i = 0; i < 400; ++i) {
    const ScoreRequest request = random_request(random, i);
    const GroupVerdicts here = local->score(request);
    CHECK(same(here, remote->score(request)));
    for (const Verdict& verdict : here.verdicts[0]) judged_right += verdict.value == 1.0 ? 1 : 0;
  }
  CHECK(judged_right > 0);
  CHECK(running.service->totals().judged == 400);
}

TEST_CASE("verdicts come in the order that the client asked for, not the service's") {
  RunningService running;
  const Names reversed{"format", "accuracy"};
  const auto remote = client_of(client_config({running.address()}), reversed, running.clock);
  const ScoreRequest request{"q", "sad", {"sad", "<think>x</think><answer>fear</answer>"}, "k"};
  CHECK(same(remote->score(request), make_local_scorer(reversed)->score(request)));
}

TEST_CASE("a function that throws in the service leaves that answer without a value, and is counted") {
  const auto scorer = make_local_scorer(std::vector<RewardFunction>{{"shaky", sometimes_throws}});
  RunningService running({}, scorer.get());
  const auto remote = client_of(client_config({running.address()}), {"shaky"}, running.clock);
  const GroupVerdicts group = remote->score({"q", "s", {"a", "odd"}, "k"});
  CHECK(group.verdicts[0][0].value == 0.25);
  CHECK_FALSE(group.verdicts[0][1].value.has_value());
  CHECK(group.verdicts[0][1].reason == "exception");
  const RewardTotals totals = running.service->totals();
  CHECK(totals.reasons.at({"shaky", "quarter"}) == 1);
  CHECK(totals.reasons.at({"shaky", "exception"}) == 1);
  CHECK(totals.completions == 2);
}

TEST_CASE("a scorer that fails as a whole, or answers too few, gives verdicts without values") {
  BrokenScorer broken;
  RunningService running({}, &broken);
  const auto remote = client_of(client_config({running.address()}), {"broken"}, running.clock);
  for (const char* question : {"throw", "other", "short"})
    check_unjudged(remote->score({question, "s", {"a", "b"}, "k"}), 1, 2, kServiceError);
  CHECK(running.service->totals().failed == 2);
  CHECK(remote->score({"fine", "s", {"a"}, "k"}).verdicts[0][0].value == 1.0);
}

TEST_CASE("a group that is too large is refused and never judged, by the client and by the service") {
  RewardServiceConfig config;
  config.max_message_bytes = 4096;
  config.max_completions = 8;
  RunningService running(config);
  const auto remote = client_of(client_config({running.address()}), kBoth, running.clock);
  check_unjudged(remote->score({"q", "s", {std::string(5000, 'x')}, "k"}), 2, 1, kServiceRefused);
  check_unjudged(remote->score({"q", "s", Names(9, "x"), "k"}), 2, 9, kServiceRefused);
  CHECK(running.service->totals().requests == 0);

  const auto channel = raw_channel(running.address());
  // Field 4, length 0: one empty completion in two bytes.
  std::string nine_empty;
  for (int i = 0; i < 9; ++i) nine_empty += std::string("\x22\x00", 2);
  CHECK(raw_call(channel, kScoreGroup, nine_empty).code == 3);               // INVALID_ARGUMENT
  CHECK(raw_call(channel, kScoreGroup, std::string(5000, '\0')).code == 8);  // RESOURCE_EXHAUSTED
  CHECK(running.service->totals().judged == 0);
  CHECK(raw_call(channel, kScoreGroup, nine_empty.substr(2)).code == 0);
}

TEST_CASE("a compressed message is refused, so that a small one cannot unpack to a large one") {
  RunningService running;
  const auto channel = raw_channel(running.address());
  const std::string zeros(1 << 20, 'a');
  const std::string request = std::string("\x12\x80\x80\x40", 4) + zeros;  // Field 2, 2^20 bytes.
  CHECK(raw_call(channel, kScoreGroup, request).code == 0);
  CHECK(raw_call(channel, kScoreGroup, request, {.gzip = true}).code == 12);  // UNIMPLEMENTED
}

TEST_CASE("a call ends at its deadline, and what expired in the queue is not judged") {
  GatedScorer gated;
  RunningService running(gated_config(1, 8), &gated);
  RewardClientConfig hasty = client_config({running.address()});
  hasty.deadline_seconds = 2;
  const auto patient = client_of(client_config({running.address()}), {"gated"}, running.clock);
  const auto remote = client_of(hasty, {"gated"}, running.clock);
  GroupVerdicts first, late;
  {
    const std::jthread thread([&] { first = patient->score({"first", "s", {"a"}, "1"}); });
    gated.wait_for_begun(1);
    const Stopwatch asked(running.clock);
    std::jthread second([&] { late = remote->score({"expires", "s", {"a"}, "2"}); });
    while (running.service->open_requests() < 2) std::this_thread::yield();
    const auto arrived = std::chrono::steady_clock::now();
    second.join();
    CHECK(asked.seconds() >= 1.9);
    CHECK(asked.seconds() < 20);
    check_unjudged(late, 1, 1, kServiceDeadline);
    // The service counts the two seconds from the arrival.
    std::this_thread::sleep_until(arrived + std::chrono::milliseconds(2100));
    gated.open();
  }
  CHECK(first.verdicts[0][0].value == 1.0);
  CHECK(patient->score({"last", "s", {"a"}, "3"}).verdicts[0][0].value == 1.0);
  CHECK(gated.seen() == Names{"first", "last"});
  CHECK(running.service->totals().expired == 1);
}

TEST_CASE("a full queue refuses at once, and what is in it is judged") {
  GatedScorer gated;
  RunningService running(gated_config(1, 1), &gated);
  const auto remote = client_of(client_config({running.address()}), {"gated"}, running.clock);
  GroupVerdicts running_group, queued_group;
  {
    const std::jthread first([&] { running_group = remote->score({"1", "s", {"a"}, "1"}); });
    gated.wait_for_begun(1);
    const std::jthread second([&] { queued_group = remote->score({"2", "s", {"a"}, "2"}); });
    while (running.service->open_requests() < 2) std::this_thread::yield();
    check_unjudged(remote->score({"3", "s", {"a"}, "3"}), 1, 1, kServiceOverloaded);
    gated.open();
  }
  CHECK(running_group.verdicts[0][0].value == 1.0);
  CHECK(queued_group.verdicts[0][0].value == 1.0);
  CHECK(gated.seen() == Names{"1", "2"});
  CHECK(running.service->totals().refused_full == 1);
}

TEST_CASE("the bytes that wait are bounded, too") {
  GatedScorer gated;
  RewardServiceConfig config = gated_config(1, 100);
  config.max_message_bytes = config.max_queued_bytes = 1 << 20;
  RunningService running(config, &gated);
  const auto remote = client_of(client_config({running.address()}), {"gated"}, running.clock);
  {
    const std::jthread first([&] { remote->score({"1", "s", {std::string(700'000, 'a')}, "1"}); });
    gated.wait_for_begun(1);
    check_unjudged(remote->score({"2", "s", {std::string(700'000, 'a')}, "2"}), 1, 1, kServiceOverloaded);
    gated.open();
  }
  CHECK(remote->score({"3", "s", {std::string(700'000, 'a')}, "3"}).verdicts[0][0].value == 1.0);
}

TEST_CASE("draining tells those who watch, refuses what is new and finishes what runs") {
  GatedScorer gated;
  RunningService running(gated_config(1, 8), &gated);
  const auto remote = client_of(client_config({running.address()}), {"gated"}, running.clock);
  RewardClientConfig impatient = client_config({running.address()});
  impatient.wait_seconds = 0;
  const auto late = client_of(impatient, {"gated"}, running.clock);
  const auto channel = raw_channel(running.address());
  CHECK(raw_call(channel, kHealthCheck, "").bytes == Names{kServing});
  GroupVerdicts first, queued;
  RawAnswer watched;
  std::jthread drain;
  {
    const std::jthread watch([&] {
      watched =
          raw_call(channel, kHealthWatch, "", {.deadline = std::chrono::seconds(30), .wanted_messages = 2});
    });
    const std::jthread one([&] { first = remote->score({"1", "s", {"a"}, "1"}); });
    gated.wait_for_begun(1);
    const std::jthread two([&] { queued = remote->score({"2", "s", {"a"}, "2"}); });
    while (running.service->open_requests() < 2) std::this_thread::yield();
    drain = std::jthread([&] { running.service->drain(); });
    while (raw_call(channel, kHealthCheck, "").bytes != Names{kNotServing}) std::this_thread::yield();
    check_unjudged(late->score({"3", "s", {"a"}, "3"}), 1, 1, kServiceUnavailable);
    gated.open();
  }
  drain.join();
  CHECK(first.verdicts[0][0].value == 1.0);
  CHECK(queued.verdicts[0][0].value == 1.0);
  CHECK(gated.seen() == Names{"1", "2"});
  // On a machine so busy that the watch came after the end, there was nothing to see.
  if (!watched.bytes.empty()) CHECK(watched.bytes.back() == kNotServing);
  check_unjudged(late->score({"4", "s", {"a"}, "4"}), 1, 1, kServiceUnavailable);
}

TEST_CASE("draining is bounded: what waits longer is cancelled and not judged") {
  GatedScorer gated;
  RewardServiceConfig config = gated_config(1, 8);
  config.drain_seconds = 0.2;
  RunningService running(config, &gated);
  RewardClientConfig impatient = client_config({running.address()});
  impatient.wait_seconds = 0;
  const auto remote = client_of(impatient, {"gated"}, running.clock);
  GroupVerdicts queued;
  {
    const std::jthread one([&] { remote->score({"1", "s", {"a"}, "1"}); });
    gated.wait_for_begun(1);
    std::jthread two([&] { queued = remote->score({"2", "s", {"a"}, "2"}); });
    while (running.service->open_requests() < 2) std::this_thread::yield();
    const std::jthread drain([&] { running.service->drain(); });
    two.join();  // Its call was ended, although nothing was judged yet.
    CHECK_FALSE(queued.verdicts[0][0].value.has_value());
    gated.open();
  }
  CHECK(gated.seen() == Names{"1"});
}

TEST_CASE("the services can be listed by reflection") {
  RunningService running;
  // ServerReflectionRequest{list_services: "*"} is field 7.
  const RawAnswer answer =
      raw_call(raw_channel(running.address()),
               "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x01*", 3));
  REQUIRE(answer.bytes.size() == 1);
  CHECK_THAT(answer.bytes[0], Catch::Contains("ferro.v1.Reward"));
  CHECK_THAT(answer.bytes[0], Catch::Contains("grpc.health.v1.Health"));
}

TEST_CASE("an address that is in use, or not of this machine, is an error that names it") {
  RunningService running;
  RewardServiceConfig taken;
  taken.listen = running.address();
  expect_error(ErrorCode::kIo, [&] { RunningService second(taken); }, {running.address(), "in use"});
  taken.listen = "192.0.2.1:50061";  // TEST-NET-1: no machine has it.
  expect_error(ErrorCode::kIo, [&] { RunningService second(taken); }, {"192.0.2.1:50061"});
}

TEST_CASE("many clients at once get their own verdicts") {
  RewardServiceConfig config;
  config.max_concurrent_requests = 4;
  RunningService running(config);
  const auto local = make_local_scorer(kBoth);
  const auto remote = client_of(client_config({running.address()}), kBoth, running.clock);
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < 50; ++i) {
          const ScoreRequest request = random_request(random, i);
          right += same(local->score(request), remote->score(request)) ? 1 : 0;
        }
      });
  }
  CHECK(right == 200);
}

}  // namespace ferro::testing
