#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"

namespace ferro {

// checkpoints/ of a run folder: step-000120/ and its like. Beside them may lie `step-<n>.tmp` (under
// construction when its writer died), `step-<n>.old` (on its way out) and `step-<n>.aside` (a damaged one, or
// one that a run resumed from an earlier step left behind); none of these is a checkpoint.

struct FoundCheckpoint {
  std::filesystem::path folder;
  std::int64_t step = 0;
};

std::filesystem::path checkpoints_folder(const std::filesystem::path& run_folder);
std::string checkpoint_name(std::int64_t step);  ///< "step-000120"
/// The step in such a name; empty for any other name.
std::optional<std::int64_t> step_of_name(const std::string& name);
/// By step, ascending; whether they are whole is not looked at.
std::vector<FoundCheckpoint> checkpoints_in(const std::filesystem::path& run_folder);
/// What keeps a folder from being a checkpoint, each line naming a file; empty: it is one.
std::vector<std::string> damage_of_checkpoint(const std::filesystem::path& checkpoint, bool checksums);
/// Renames a checkpoint to `<name>.aside`, in the place of an earlier one. Error{kIo}.
void put_aside(const std::filesystem::path& checkpoint);
/// Removes all but the newest `keep` (0: none is removed) and what writers that died left. Error{kIo}.
void remove_old_checkpoints(const std::filesystem::path& run_folder, std::int64_t keep);

/// A checkpoint under construction. Files are written below path(), each flushed by its writer; commit() adds
/// the manifest last, flushes the folders and gives the folder its name. Destroyed before, it leaves nothing.
/// Several ranks write below one path(); one of them commits. Error{kIo}.
class CheckpointBuilder {
 public:
  CheckpointBuilder(const std::filesystem::path& run_folder, std::int64_t step);
  CheckpointBuilder(const CheckpointBuilder&) = delete;
  CheckpointBuilder& operator=(const CheckpointBuilder&) = delete;
  ~CheckpointBuilder();
  const std::filesystem::path& path() const { return staged_; }
  /// A file's sum as its writer computed it; files that nobody notes are read again by commit().
  void note(const std::filesystem::path& file, const std::string& sha256);
  /// An existing checkpoint of that step is replaced. Returns the folder.
  std::filesystem::path commit(const std::string& created, const std::string& version);

 private:
  std::vector<CheckpointFile> files() const;

  std::filesystem::path run_folder_, target_, staged_;
  std::int64_t step_;
  std::map<std::filesystem::path, std::string> noted_;
};

}  // namespace ferro
