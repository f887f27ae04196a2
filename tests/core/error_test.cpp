#include "core/error.h"

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"

namespace ferro {

TEST_CASE("an error's code is the exit code that docs/exit-codes.md gives") {
  CHECK(Error(ErrorCode::kUsage, "").exit_code() == 64);
  CHECK(Error(ErrorCode::kData, "").exit_code() == 65);
  CHECK(Error(ErrorCode::kUnavailable, "").exit_code() == 69);
  CHECK(Error(ErrorCode::kInternal, "").exit_code() == 70);
  CHECK(Error(ErrorCode::kOutOfMemory, "").exit_code() == 71);
  CHECK(Error(ErrorCode::kIo, "").exit_code() == 74);
  CHECK(Error(ErrorCode::kCheckpointed, "").exit_code() == 75);
  CHECK(Error(ErrorCode::kDivergence, "").exit_code() == 76);
  CHECK(Error(ErrorCode::kConfig, "").exit_code() == 78);
}

TEST_CASE("a failed check says what should have held and the values") {
  const int rows = 3;
  FERRO_CHECK(rows == 3, "rows {}", rows);
  testing::expect_error(ErrorCode::kInternal, [&] { FERRO_CHECK(rows == 4, "rows {}", rows); },
                        {"error_test.cpp", "rows == 4", "rows 3"});
  testing::expect_error(ErrorCode::kData, [] { fail(ErrorCode::kData, "row {} of {}", 3, "a.json"); },
                        {"row 3 of a.json"});
}

}  // namespace ferro
