#include "core/log.h"

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"

namespace ferro {

TEST_CASE("a log file holds plain lines with time in UTC, level and name, appended") {
  const testing::ScratchFolder folder;
  make_logger("trainer", "info", folder / "log")->info("step {}", 3);
  auto logger = make_logger("trainer", "warn", folder / "log");
  logger->info("not shown");
  logger->warn("{braces} stay");
  logger->flush();
  CHECK_THAT(read_file(folder / "log"),
             Catch::Matches(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info  trainer: step 3\n)"
                            R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning trainer: \{braces\} stay\n)"));
}

TEST_CASE("an unknown level and an impossible file are errors") {
  const testing::ScratchFolder folder;
  testing::expect_error(ErrorCode::kUsage, [] { make_logger("a", "loud"); }, {"`loud`", "debug"});
  write_file_atomically(folder / "file", "x");
  testing::expect_error(ErrorCode::kIo, [&] { make_logger("a", "info", folder / "file/log"); },
                        {"file/log", "log file"});
}

}  // namespace ferro
