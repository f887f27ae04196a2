#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace ferro {

/// Writes a file so that readers see the old content or the new, never a part: writes `<path>.tmp-<pid>`,
/// commit() does fsync, rename, fsync of the folder. Destroyed uncommitted, it removes the temporary.
/// Any failure (full disk, permissions) is Error{kIo} naming path, operation, errno text and bytes written.
/// One thread at a time.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::uint64_t bytes_written_ = 0;
};

/// The whole file in one call, through AtomicFile.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// The whole file. Error{kIo} when missing or unreadable; Error{kData} when larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes = std::uint64_t{1} << 34);

/// Creates the folder and its parents; Error{kIo} with the path otherwise.
void create_folders(const std::filesystem::path& folder);

/// Makes renames inside `folder` durable.
void sync_folder(const std::filesystem::path& folder);

}  // namespace ferro
