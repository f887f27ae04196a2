#pragma once

#include <string>

#include "core/error.h"
#include "model/aten.h"

namespace ferro {

/// Runs `job` with LibTorch's own failures in this program's terms. An allocation that fails is a c10::Error
/// with a text, not std::bad_alloc.
template <class Job>
auto in_our_terms(const Job& job) {
  try {
    return job();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorCode::kOutOfMemory, "device memory ran out: {}", error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (what.find("can't allocate memory") != std::string::npos)
      fail(ErrorCode::kOutOfMemory, "host memory ran out: {}", what);
    fail(ErrorCode::kInternal, "LibTorch: {}", what);
  }
}

}  // namespace ferro
