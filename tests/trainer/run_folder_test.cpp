#include "trainer/run_folder.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"

namespace ferro {

using testing::code_of;

TEST_CASE("lines of metrics carry their step, and what is not a number is null") {
  const testing::TemporaryFolder root;
  const ManualClock clock;
  RunFolder run(root.path() / "run", false, clock);
  run.log_metrics(3, {{"loss", 0.25}, {"kl", std::nan("")}});
  run.log_timing(3, {{"step_time", 2.0}});
  CHECK(read_file(root.path() / "run/metrics.jsonl") == "{\"step\":3,\"kl\":null,\"loss\":0.25}\n");
  const auto timing = nlohmann::json::parse(read_file(root.path() / "run/timing.jsonl"));
  CHECK(timing.at("step_time") == 2.0);
  CHECK(timing.contains("at"));
}

TEST_CASE("provenance gains keys and keeps the others") {
  const testing::TemporaryFolder root;
  const ManualClock clock;
  RunFolder run(root.path() / "run", false, clock);
  run.write_provenance(machine_facts(clock, {"trainer", "rollout"}));
  run.write_provenance({{"weights_sha256", "ab"}});
  const auto facts = nlohmann::json::parse(read_file(root.path() / "run/provenance.json"));
  CHECK(facts.at("process_ids").at("rollout") == static_cast<std::int64_t>(::getpid()));
  CHECK(facts.at("weights_sha256") == "ab");
  CHECK(facts.at("threads").get<int>() >= 1);
}

TEST_CASE("a line that cannot be written is an I/O error that names the file") {
  const testing::TemporaryFolder root;
  const ManualClock clock;
  RunFolder run(root.path() / "run", false, clock);
  std::filesystem::create_symlink("/dev/full", root.path() / "run/metrics.jsonl");
  CHECK(code_of([&] { run.log_metrics(1, {{"loss", 1.0}}); }) == ErrorCode::kIo);
  CHECK_THROWS_WITH(run.log_metrics(1, {{"loss", 1.0}}), Catch::Contains("metrics.jsonl"));
}

TEST_CASE("an output folder around the starting model is refused") {
  CHECK(code_of([] { check_apart("runs/a", "runs/a/model"); }) == ErrorCode::kConfig);
  CHECK(code_of([] { check_apart("runs/a", "./runs/b/../a"); }) == ErrorCode::kConfig);
  CHECK_NOTHROW(check_apart("runs/ab", "runs/a/model"));
  CHECK_NOTHROW(check_apart("runs/a/model/next", "runs/a/model"));
}

}  // namespace ferro
