#include "model/staged_folder.h"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

/// Only a model is replaced, never a folder that happens to have the name.
void check_replaceable(const fs::path& folder, const char* mark) {
  if (!fs::exists(folder)) return;
  if (!fs::is_directory(folder)) fail(ErrorCode::kIo, "{}: exists and is not a folder", folder.string());
  if (!fs::is_empty(folder) && !fs::exists(folder / mark))
    fail(ErrorCode::kIo, "{}: exists and is not a model folder (no {}); choose another or remove it",
         folder.string(), mark);
}

[[noreturn]] void fail_rename(const fs::path& from, const fs::path& to) {
  fail(ErrorCode::kIo, "{}: cannot rename {} to it: {}", to.string(), from.string(), std::strerror(errno));
}

void move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_rename(from, to);
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& target, const char* mark)
    : target_(target.has_filename() ? target : target.parent_path()), staged_(target_.string() + ".tmp") {
  check_replaceable(target_, mark);
  std::error_code ignored;
  fs::remove_all(staged_, ignored);
  create_folders(staged_);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  fs::remove_all(staged_, ignored);
}

void StagedFolder::publish() {
  sync_folder(staged_);
  const bool exists = fs::exists(target_);
  const unsigned flags = exists ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(AT_FDCWD, staged_.c_str(), AT_FDCWD, target_.c_str(), flags) != 0) {
    if (errno != EINVAL && errno != ENOSYS && errno != EXDEV) fail_rename(staged_, target_);
    if (exists) move(target_, fs::path(target_.string() + ".old"));
    move(staged_, target_);
    if (exists) fs::remove_all(target_.string() + ".old");
  }
  sync_folder(target_.parent_path().empty() ? fs::path(".") : target_.parent_path());
}

}  // namespace ferro
