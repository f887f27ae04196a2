#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

/// What libFuzzer and tests/fuzz/driver.cpp call with each input. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace ferro::testing {

/// Ends the program when `held` is false: a finding.
inline void must_hold(bool held, const char* what) {
  if (held) return;
  std::fprintf(stderr, "finding: %s\n", what);
  std::abort();
}

/// Runs a parser on bytes from outside. It may read them or refuse them with an Error that names the data as
/// the cause; a broken invariant (kInternal) and any other exception are findings.
template <class Parse>
void reads_or_refuses(Parse&& parse) {
  try {
    parse();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal) std::fprintf(stderr, "%s\n", error.what());
    must_hold(error.code() != ErrorCode::kInternal, "a broken invariant");
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace ferro::testing
