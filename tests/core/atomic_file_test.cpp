#include "core/atomic_file.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

std::ptrdiff_t entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

fs::path temporary_of(const fs::path& path) {
  return path.string() + ".tmp-" + std::to_string(::getpid());
}

}  // namespace

TEST_CASE("a file appears with its whole content at commit, not before") {
  const testing::ScratchFolder folder;
  AtomicFile file(folder / "a.json");
  file.write("first ");
  file.write("second");
  CHECK_FALSE(fs::exists(folder / "a.json"));
  file.commit();
  CHECK(read_file(folder / "a.json") == "first second");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a file that is not committed leaves the old content and no temporary") {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
    CHECK(fs::exists(temporary_of(folder / "a")));
  }
  CHECK(read_file(folder / "a") == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a temporary left by a crashed process with this id is overwritten whole") {
  const testing::ScratchFolder folder;
  write_file_atomically(temporary_of(folder / "a"), "much longer leftover");
  write_file_atomically(folder / "a", "new");
  CHECK(read_file(folder / "a") == "new");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a full disk is an I/O error with the system's words, and the temporary is removed") {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "a", "old");
  // /dev/full answers every write with ENOSPC; the temporary's name leads there.
  fs::create_symlink("/dev/full", temporary_of(folder / "a"));
  testing::expect_error(
      ErrorCode::kIo, [&] { write_file_atomically(folder / "a", "new"); },
      {(folder / "a").string(), "cannot write", "No space left on device", "after 0 bytes"});
  CHECK(read_file(folder / "a") == "old");
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a target that cannot be replaced is an I/O error, and the temporary is removed") {
  const testing::ScratchFolder folder;
  create_folders(folder / "taken/below");
  testing::expect_error(ErrorCode::kIo, [&] { write_file_atomically(folder / "taken", "x"); },
                        {"cannot rename into place"});
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a missing folder is an I/O error that names the path") {
  const testing::ScratchFolder folder;
  testing::expect_error(ErrorCode::kIo, [&] { AtomicFile(folder / "absent/a"); },
                        {"absent/a", "No such file or directory"});
  testing::expect_error(ErrorCode::kIo, [&] { sync_folder(folder / "absent"); }, {"absent"});
}

TEST_CASE("reading tells missing, folder and too large apart") {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "a", std::string(1000, 'x'));
  CHECK(read_file(folder / "a", 1000).size() == 1000);
  testing::expect_error(ErrorCode::kData, [&] { read_file(folder / "a", 999); },
                        {"larger than the 999 bytes"});
  testing::expect_error(ErrorCode::kIo, [&] { read_file(folder / "b"); }, {"cannot open", "No such file"});
  testing::expect_error(ErrorCode::kIo, [&] { read_file(folder.path()); }, {"Is a directory"});
}

TEST_CASE("a file without a size of its own is read to its end, and no further than allowed") {
  // Files of /proc report size 0.
  CHECK_FALSE(read_file("/proc/self/cmdline").empty());
  testing::expect_error(ErrorCode::kData, [] { read_file("/dev/zero", 1 << 20); }, {"larger than"});
}

TEST_CASE("folders are created with their parents, and once is enough") {
  const testing::ScratchFolder folder;
  create_folders(folder / "a/b/c");
  create_folders(folder / "a/b/c");
  CHECK(fs::is_directory(folder / "a/b/c"));
  write_file_atomically(folder / "file", "x");
  testing::expect_error(ErrorCode::kIo, [&] { create_folders(folder / "file"); }, {"file"});
  testing::expect_error(ErrorCode::kIo, [&] { create_folders(folder / "file/below"); }, {"file/below"});
}

}  // namespace ferro
