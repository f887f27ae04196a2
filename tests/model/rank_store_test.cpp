#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "model/dist/rank_store.h"
#include "tests/core/expect_error.h"

namespace ferro {
namespace {

using namespace std::chrono_literals;
using testing::expect_error;

RankEnvironment read(std::map<std::string, std::string> variables) {
  return rank_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

RankEnvironment host_of(int world_size) {
  RankEnvironment environment;
  environment.world_size = world_size;
  environment.port = 0;
  environment.hosts_store = true;
  return environment;
}

TEST_CASE("torchrun's variables name a rank, and without them a job is one process") {
  const RankEnvironment alone = read({});
  CHECK(alone.rank == 0);
  CHECK(alone.world_size == 1);
  CHECK_FALSE(alone.hosts_store);
  const RankEnvironment rank = read({{"RANK", "5"},
                                     {"WORLD_SIZE", "8"},
                                     {"LOCAL_RANK", "1"},
                                     {"LOCAL_WORLD_SIZE", "4"},
                                     {"MASTER_ADDR", "node-1"},
                                     {"MASTER_PORT", "1234"}});
  CHECK(rank.rank == 5);
  CHECK(rank.world_size == 8);
  CHECK(rank.local_rank == 1);
  CHECK(rank.local_world_size == 4);
  CHECK(rank.address == "node-1");
  CHECK(rank.port == 1234);
  CHECK_FALSE(rank.hosts_store);
  CHECK(read({{"RANK", "0"}, {"WORLD_SIZE", "2"}}).hosts_store);
  CHECK_FALSE(
      read({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}).hosts_store);
}

TEST_CASE("variables that make no sense are configuration errors that name them") {
  expect_error(ErrorCode::kConfig, [] { read({{"RANK", "0"}}); }, {"RANK", "WORLD_SIZE"});
  expect_error(ErrorCode::kConfig, [] { read({{"WORLD_SIZE", "2"}}); }, {"WORLD_SIZE", "RANK"});
  expect_error(ErrorCode::kConfig, [] { read({{"RANK", "2"}, {"WORLD_SIZE", "2"}}); }, {"RANK=2", "0 to 1"});
  expect_error(ErrorCode::kConfig, [] { read({{"RANK", "x"}, {"WORLD_SIZE", "2"}}); }, {"RANK=x"});
  expect_error(ErrorCode::kConfig, [] { read({{"RANK", "0"}, {"WORLD_SIZE", ""}}); }, {"WORLD_SIZE="});
  expect_error(ErrorCode::kConfig,
               [] {
                 read({{"RANK", "0"}, {"WORLD_SIZE", "99999999999"}});
               },
               {"WORLD_SIZE"});
  expect_error(ErrorCode::kConfig,
               [] {
                 read({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}});
               },
               {"MASTER_PORT=70000"});
  expect_error(ErrorCode::kConfig,
               [] {
                 read({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", ""}});
               },
               {"MASTER_ADDR"});
}

TEST_CASE("ranks read what others set, and wait for what is not there yet") {
  RankStore host(host_of(2), 10s);
  RankEnvironment other = host_of(2);
  other.rank = 1;
  other.hosts_store = false;
  other.port = host.port();
  RankStore client(other, 10s);
  CHECK_FALSE(client.find("a").has_value());
  std::jthread setter([&] {
    std::this_thread::sleep_for(100ms);
    host.set("a", std::string("one\0two", 7));
  });
  CHECK(client.get("a") == std::string("one\0two", 7));
  CHECK(client.find("a").has_value());
  CHECK(client.add("n", 2) == 2);
  CHECK(host.add("n", 3) == 5);
}

TEST_CASE("a store's waits are bounded and their errors name address and key") {
  RankStore host(host_of(1), 300ms);
  const auto begin = std::chrono::steady_clock::now();
  expect_error(ErrorCode::kUnavailable, [&] { host.get("never"); }, {"127.0.0.1", "never"});
  expect_error(ErrorCode::kUnavailable, [&] { host.wait({"never"}, 200ms); }, {"127.0.0.1", "never"});
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
}

TEST_CASE(
    "a store that nobody holds, an address that is not this machine's and a taken port are told apart") {
  RankStore host(host_of(2), 5s);
  RankEnvironment taken = host_of(2);
  taken.port = host.port();
  expect_error(ErrorCode::kUnavailable, [&] { RankStore second(taken, 1s); }, {"127.0.0.1", "another job"});
  RankEnvironment elsewhere = host_of(2);
  elsewhere.address = "192.0.2.1";  // RFC 5737: nobody's.
  expect_error(ErrorCode::kUnavailable, [&] { RankStore none(elsewhere, 1s); }, {"192.0.2.1"});
  RankEnvironment lonely = host_of(2);
  lonely.rank = 1;
  lonely.hosts_store = false;
  lonely.port = 1;
  const auto begin = std::chrono::steady_clock::now();
  expect_error(ErrorCode::kUnavailable, [&] { RankStore none(lonely, 1s); },
               {"rank 1", "127.0.0.1:1", "rank 0"});
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
}

}  // namespace
}  // namespace ferro
