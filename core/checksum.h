#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ferro {

/// SHA-256 as lower-case hex, so that `sha256sum` outside can check it. Pieces may be added one by one.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  std::string hex();  ///< Ends the sum; call once.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string sha256_of(std::string_view text);
std::string sha256_of_file(const std::filesystem::path& path);  ///< Error{kIo} when unreadable.

}  // namespace ferro
