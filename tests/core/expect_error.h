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

/// The code that `action` ends with, and its message into `what`; it must throw.
template <class Action>
ErrorCode code_of(Action&& action, std::string* what = nullptr) {
  try {
    action();
  } catch (const Error& error) {
    if (what != nullptr) *what = error.what();
    return error.code();
  }
  FAIL("no error was thrown");
  return ErrorCode::kInternal;
}

}  // namespace ferro::testing
