#pragma once

namespace ferro::testing {

/// Whether this program watches its own memory or threads, which makes it some ten to fifty times slower.
constexpr bool sanitized() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

}  // namespace ferro::testing
