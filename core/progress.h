#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "core/clock.h"

namespace ferro {

/// Shows how a long job goes: one line rewritten in place on a terminal (at most ten times a second),
/// a plain line at most every `plain_seconds` otherwise. "sft 120/300 | loss 0.812 | 14.2 step/s | ETA 0:13".
/// One thread.
class Progress {
 public:
  Progress(std::string name, std::int64_t total, const Clock& clock, std::FILE* out = stderr,
           double plain_seconds = 5.0);
  ~Progress();  ///< Ends the line.
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::int64_t done, const std::string& facts);

 private:
  void print(std::int64_t done, const std::string& facts);
  std::string name_;
  std::int64_t total_;
  const Clock& clock_;
  std::FILE* out_;
  double plain_seconds_;
  bool terminal_;
  Clock::TimePoint start_, last_print_;
  std::int64_t printed_ = -1;
};

}  // namespace ferro
