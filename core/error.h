#pragma once

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace ferro {

/// Why a run cannot go on. The values are the process exit codes; what a launcher should do with
/// each stands in docs/exit-codes.md: 64, 65, 76, 78 fail; 69, 70, 71, 74 restart; 75 requeue.
enum class ErrorCode {
  kUsage = 64,         ///< The command line is wrong.
  kData = 65,          ///< A data set, image, tokenizer or checkpoint has wrong content.
  kUnavailable = 69,   ///< A peer (rank, worker, service) is gone.
  kInternal = 70,      ///< A broken invariant: a bug in this program.
  kOutOfMemory = 71,   ///< Host or device memory ran out.
  kIo = 74,            ///< A file could not be read or written (missing, full disk, permissions).
  kCheckpointed = 75,  ///< Told to stop; state is on disk; run again to go on.
  kDivergence = 76,    ///< Training left its bounds (non-finite loss or gradient).
  kConfig = 78,        ///< The configuration is wrong.
};

/// The only exception type of this project: for what ends the run. An outcome that is expected per
/// item (a malformed row, a wrong answer) is a return value instead. The message says what, where
/// (file, line, key, rank, step) and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }
  int exit_code() const noexcept { return static_cast<int>(code_); }

 private:
  ErrorCode code_;
};

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ferro

/// Invariant check, on in every build type. Say what should have held and the values:
///   FERRO_CHECK(mask.size() == tokens.size(), "mask {} vs tokens {}", mask.size(), tokens.size());
#define FERRO_CHECK(condition, ...)                                                                      \
  do {                                                                                                   \
    if (!(condition)) [[unlikely]]                                                                       \
      throw ::ferro::Error(::ferro::ErrorCode::kInternal,                                                \
                           ::fmt::format("{}:{}: check `{}` failed: ", __FILE__, __LINE__, #condition) + \
                               ::fmt::format(__VA_ARGS__));                                              \
  } while (false)
