#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/fuzz/fuzz_target.h"

namespace ferro::testing {

/// A file in memory for parsers that read by path. One thread at a time.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    must_hold(descriptor_ >= 0, "memfd_create failed");
    path_ = "/proc/self/fd/" + std::to_string(descriptor_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  /// Replaces the content; returns the path to read it by.
  const std::filesystem::path& hold(std::string_view content) {
    must_hold(::ftruncate(descriptor_, 0) == 0, "ftruncate failed");
    const ssize_t written = ::pwrite(descriptor_, content.data(), content.size(), 0);
    must_hold(written == static_cast<ssize_t>(content.size()), "pwrite failed");
    return path_;
  }

 private:
  int descriptor_;
  std::filesystem::path path_;
};

}  // namespace ferro::testing
