#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "launch/plugins.h"
#include "launch/run_main.h"
#include "tests/core/expect_error.h"

namespace ferro {
namespace {

TEST_CASE("an exception becomes its documented exit code") {
  CHECK(run_main([] { return 3; }) == 3);
  CHECK(run_main([]() -> int { throw Error(ErrorCode::kData, "x"); }) == 65);
  CHECK(run_main([]() -> int { throw Error(ErrorCode::kCheckpointed, "x"); }) == 75);
  CHECK(run_main([]() -> int { throw std::bad_alloc(); }) == 71);
  CHECK(run_main([]() -> int { throw std::system_error(ENOSPC, std::generic_category(), "x"); }) == 74);
  CHECK(run_main([]() -> int { throw std::logic_error("x"); }) == 70);
  CHECK(run_main([]() -> int { throw 1; }) == 70);
}

TEST_CASE("an Error thrown in a shared library is caught by its type here") {
  const auto* thrower =
      static_cast<void (*const*)()>(load_plugin(FERRO_THROWING_PLUGIN, "throwing_table", "build the tests"));
  testing::expect_error(ErrorCode::kDivergence, *thrower, {"from the other side"});
  CHECK(run_main([&] {
          (*thrower)();
          return 0;
        }) == 76);
}

TEST_CASE("a library that is absent is a usage error that says how to build it") {
  testing::expect_error(ErrorCode::kUsage,
                        [] { load_plugin("/no/such/libx.so", "entry", "build it with Y"); },
                        {"libx.so", "build it with Y"});
}

TEST_CASE("a library without the entry is refused by name") {
  testing::expect_error(ErrorCode::kInternal, [] { load_plugin(FERRO_THROWING_PLUGIN, "another_entry", ""); },
                        {"another_entry"});
}

}  // namespace
}  // namespace ferro
