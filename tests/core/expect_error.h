#pragma once

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro::testing {

/// `action` must throw ferro::Error with this code and a message that holds each of `parts`.
template <class Action>
void expect_error(ErrorCode code, Action&& action, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    for (const std::string& part : parts) CHECK_THAT(error.what(), Catch::Contains(part));
    return;
  }
  FAIL_CHECK("no error was thrown");
}

}  // namespace ferro::testing
