#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ferro {

/// Where a job begins.
struct RunStart {
  std::filesystem::path checkpoint;  ///< Whole; empty: at the beginning.
  std::int64_t step = 0;             ///< Of the checkpoint.
  bool replace = false;              ///< Begins in the place of an unfinished run.
  std::int64_t finished_steps = -1;  ///< The run in the folder ended after so many.
  std::vector<std::string> notes;    ///< What the user should know: damaged checkpoints, why it begins.

  bool resumed() const { return !checkpoint.empty(); }
  /// The folder's content stays.
  bool keeps_folder() const { return resumed() || finished_steps >= 0; }
};

/// What `resume_from_checkpoint` means for the run folder as it is. Empty or "false": the beginning, whatever
/// lies there. "true": the newest checkpoint whose files are all as they were written, with a note on each
/// damaged one that was passed over; where there is none the beginning, with a note. Else a checkpoint of
/// that folder. Error{kData}: all are damaged, or the named one is, with what is wrong. Error{kConfig}: the
/// named folder is no checkpoint of this run; the folder holds a model but nothing to go on from and
/// `overwrite` is false.
RunStart find_run_start(const std::filesystem::path& run_folder, const std::string& resume_from_checkpoint,
                        bool overwrite);

/// Puts checkpoints later than `start` aside: they belong to a future that is taken back.
void put_later_checkpoints_aside(const std::filesystem::path& run_folder, const RunStart& start);

/// The number of this start of the run, from 1: each is larger than all before. It is taken by creating a
/// file that must not exist yet, so that no two processes get the same. Error{kIo}.
std::int64_t take_incarnation(const std::filesystem::path& run_folder);

}  // namespace ferro
