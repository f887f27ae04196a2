#include "trainer/checkpoint/run_start.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "trainer/checkpoint/checkpoint_folder.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

/// Steps of the finished run in the folder; -1: none, or nothing that says so.
std::int64_t finished_steps_of(const fs::path& run_folder) {
  if (!fs::exists(run_folder / "provenance.json")) return -1;
  const auto facts = nlohmann::json::parse(read_file(run_folder / "provenance.json"), nullptr, false);
  if (!facts.is_object()) return -1;
  const auto steps = facts.find("finished_steps");
  return steps != facts.end() && steps->is_number_unsigned() ? steps->get<std::int64_t>() : -1;
}

RunStart start_from(const fs::path& run_folder, const std::string& named) {
  const fs::path folder = fs::weakly_canonical(fs::absolute(named));
  const fs::path expected = fs::weakly_canonical(fs::absolute(checkpoints_folder(run_folder)));
  const auto step = step_of_name(folder.filename().string());
  if (!step || folder.parent_path() != expected)
    fail(ErrorCode::kConfig,
         "resume_from_checkpoint is {}, which is no checkpoint of this run; they lie in {}", named,
         checkpoints_folder(run_folder).string());
  if (!fs::is_directory(folder))
    fail(ErrorCode::kConfig, "resume_from_checkpoint is {}, which does not exist", named);
  const std::vector<std::string> damage = damage_of_checkpoint(folder, true);
  if (!damage.empty())
    fail(ErrorCode::kData, "checkpoint {} is damaged: {}", folder.string(), fmt::join(damage, "; "));
  RunStart start;
  start.checkpoint = folder;
  start.step = *step;
  return start;
}

RunStart newest_start(const fs::path& run_folder) {
  RunStart start;
  std::vector<FoundCheckpoint> found = checkpoints_in(run_folder);
  std::reverse(found.begin(), found.end());
  for (const FoundCheckpoint& checkpoint : found) {
    const std::vector<std::string> damage = damage_of_checkpoint(checkpoint.folder, true);
    if (damage.empty()) {
      start.checkpoint = checkpoint.folder;
      start.step = checkpoint.step;
      return start;
    }
    start.notes.push_back(fmt::format("checkpoint {} is damaged and passed over: {}",
                                      checkpoint.folder.string(), fmt::join(damage, "; ")));
  }
  if (!found.empty())
    fail(ErrorCode::kData, "{} holds no whole checkpoint: {}", checkpoints_folder(run_folder).string(),
         fmt::join(start.notes, "; "));
  return start;
}

}  // namespace

RunStart find_run_start(const fs::path& run_folder, const std::string& resume_from_checkpoint,
                        bool overwrite) {
  if (resume_from_checkpoint.empty() || resume_from_checkpoint == "false") return {};
  const bool newest = resume_from_checkpoint == "true";
  RunStart start = newest ? newest_start(run_folder) : start_from(run_folder, resume_from_checkpoint);
  if (newest) start.finished_steps = finished_steps_of(run_folder);
  if (start.keeps_folder()) return start;
  const bool has_model = fs::exists(run_folder / "model") || fs::exists(run_folder / "adapter");
  if (has_model && !overwrite)
    fail(ErrorCode::kConfig,
         "output_dir {} holds a model, but no checkpoint to go on from; choose another folder, or set "
         "overwrite_output_dir: true to begin again in its place",
         run_folder.string());
  start.replace = true;
  start.notes.push_back(fmt::format("no checkpoint in {}: training begins at its first step",
                                    checkpoints_folder(run_folder).string()));
  return start;
}

void put_later_checkpoints_aside(const fs::path& run_folder, const RunStart& start) {
  for (const FoundCheckpoint& checkpoint : checkpoints_in(run_folder))
    if (checkpoint.step > start.step) put_aside(checkpoint.folder);
}

std::int64_t take_incarnation(const fs::path& run_folder) {
  const fs::path folder = run_folder / "incarnations";
  create_folders(folder);
  std::int64_t number = 1;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    number = std::max<std::int64_t>(number, std::atoll(entry.path().filename().c_str()) + 1);
  while (true) {
    const fs::path file = folder / fmt::format("{:06d}", number);
    const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) {
      ::close(descriptor);
      sync_folder(folder);
      return number;
    }
    if (errno != EEXIST)
      fail(ErrorCode::kIo, "{}: cannot be created: {}", file.string(), std::strerror(errno));
    ++number;
  }
}

}  // namespace ferro
