#include "launch/run_main.h"

#include <cstdio>
#include <exception>
#include <new>

#include "core/error.h"

namespace ferro {

int run_main(const std::function<int()>& body) noexcept {
  try {
    return body();
  } catch (const Error& error) {
    const char* kind = error.code() == ErrorCode::kCheckpointed ? "stopped" : "error";
    std::fprintf(stderr, "ferro: %s: %s\n", kind, error.what());
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("ferro: error: out of memory\n", stderr);
    return static_cast<int>(ErrorCode::kOutOfMemory);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ferro: internal error: %s\n", error.what());
  } catch (...) {
    std::fputs("ferro: internal error of an unknown type\n", stderr);
  }
  return static_cast<int>(ErrorCode::kInternal);
}

}  // namespace ferro
