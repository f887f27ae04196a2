#include "trainer/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/fail_point.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    fail(ErrorCode::kIo, "{}: cannot rename {} to it: {}", to.string(), from.string(), error.message());
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot be removed: {}", folder.string(), error.message());
}

/// Out of sight before its files go: a half removed checkpoint would look damaged.
void retire(const fs::path& checkpoint) {
  const fs::path old = checkpoint.string() + ".old";
  remove_folder(old);
  move(checkpoint, old);
  fail_point("checkpoint.retired");
  remove_folder(old);
}

/// Folders too: a file's name is in its folder's data.
void sync_tree(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) sync_tree(entry.path());
  sync_folder(folder);
}

}  // namespace

fs::path checkpoints_folder(const fs::path& run_folder) {
  return run_folder / "checkpoints";
}

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("step-{:06d}", step);
}

std::optional<std::int64_t> step_of_name(const std::string& name) {
  constexpr std::size_t kPrefix = 5;
  std::int64_t step = 0;
  const char* const end = name.data() + name.size();
  if (name.size() <= kPrefix || std::from_chars(name.data() + kPrefix, end, step).ptr != end || step < 0)
    return {};
  return name == checkpoint_name(step) ? std::optional(step) : std::nullopt;
}

std::vector<FoundCheckpoint> checkpoints_in(const fs::path& run_folder) {
  std::vector<FoundCheckpoint> found;
  std::error_code absent;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_folder(run_folder), absent))
    if (const auto step = step_of_name(entry.path().filename().string()))
      found.push_back({entry.path(), *step});
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::vector<std::string> damage_of_checkpoint(const fs::path& checkpoint, bool checksums) {
  try {
    const Manifest manifest = read_manifest(checkpoint);
    const auto named = step_of_name(checkpoint.filename().string());
    if (named && *named != manifest.step)
      return {fmt::format("{}: is of step {}", (checkpoint / kManifestFile).string(), manifest.step)};
    return damage_of(checkpoint, manifest, checksums);
  } catch (const Error& error) {
    return {error.what()};
  }
}

void put_aside(const fs::path& checkpoint) {
  const fs::path aside = checkpoint.string() + ".aside";
  remove_folder(aside);
  move(checkpoint, aside);
}

void remove_old_checkpoints(const fs::path& run_folder, std::int64_t keep) {
  std::error_code absent;
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_folder(run_folder), absent)) {
    const fs::path& path = entry.path();
    const bool unfinished = path.extension() == ".tmp" || path.extension() == ".old";
    if (unfinished && step_of_name(path.stem().string())) left.push_back(path);
  }
  for (const fs::path& folder : left) remove_folder(folder);
  if (keep == 0) return;
  const std::vector<FoundCheckpoint> found = checkpoints_in(run_folder);
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < found.size(); ++i) retire(found[i].folder);
}

CheckpointBuilder::CheckpointBuilder(const fs::path& run_folder, std::int64_t step)
    : run_folder_(run_folder),
      target_(checkpoints_folder(run_folder) / checkpoint_name(step)),
      staged_(target_.string() + ".tmp"),
      step_(step) {
  remove_folder(staged_);
  create_folders(staged_);
}

CheckpointBuilder::~CheckpointBuilder() {
  std::error_code ignored;
  fs::remove_all(staged_, ignored);
}

void CheckpointBuilder::note(const fs::path& file, const std::string& sha256) {
  noted_[file.lexically_normal()] = sha256;
}

std::vector<CheckpointFile> CheckpointBuilder::files() const {
  std::vector<CheckpointFile> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(staged_)) {
    if (!entry.is_regular_file()) continue;
    const fs::path file = entry.path().lexically_relative(staged_);
    const auto noted = noted_.find(file);
    files.push_back({file.generic_string(), entry.file_size(),
                     noted != noted_.end() ? noted->second : sha256_of_file(entry.path())});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

fs::path CheckpointBuilder::commit(const std::string& created, const std::string& version) {
  fail_point("checkpoint.files");
  // What the manifest promises must be on the disk before the manifest is.
  sync_tree(staged_);
  fail_point("checkpoint.synced");
  write_file_atomically(staged_ / kManifestFile, manifest_text({step_, created, version, files()}));
  fail_point("checkpoint.manifest");
  if (fs::exists(target_)) retire(target_);
  move(staged_, target_);
  fail_point("checkpoint.renamed");
  sync_folder(target_.parent_path());
  sync_folder(run_folder_);
  return target_;
}

}  // namespace ferro
