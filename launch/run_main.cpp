#include "launch/run_main.h"

#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "core/error.h"

namespace ferro {

int run_main(const std::function<int()>& body) noexcept {
  try {
    const int exit_code = body();
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      fail(ErrorCode::kIo, "the standard output could not be written: is its disk full?");
    return exit_code;
  } catch (const Error& error) {
    const char* kind = error.code() == ErrorCode::kCheckpointed ? "stopped" : "error";
    std::fprintf(stderr, "ferro: %s: %s\n", kind, error.what());
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("ferro: error: out of memory\n", stderr);
    return static_cast<int>(ErrorCode::kOutOfMemory);
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "ferro: error: %s\n", error.what());
    return static_cast<int>(ErrorCode::kIo);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ferro: internal error: %s\n", error.what());
  } catch (...) {
    std::fputs("ferro: internal error of an unknown type\n", stderr);
  }
  return static_cast<int>(ErrorCode::kInternal);
}

}  // namespace ferro
