#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include "core/atomic_file.h"
#include "core/byte_text.h"
#include "core/error.h"
#include "launch/cli.h"
#include "trainer/checkpoint/checkpoint_folder.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

/// The checkpoint that `path` is, or those of the run folder that it is, by step. Error{kData}: neither.
std::vector<FoundCheckpoint> checkpoints_at(const fs::path& path) {
  const fs::path folder = path.has_filename() ? path : path.parent_path();
  if (!fs::is_directory(folder)) fail(ErrorCode::kIo, "{}: no such folder", path.string());
  const auto step = step_of_name(folder.filename().string());
  if (step || fs::exists(folder / kManifestFile)) return {{folder, step.value_or(0)}};
  std::vector<FoundCheckpoint> found = checkpoints_in(folder);
  if (found.empty())
    fail(ErrorCode::kData, "{}: neither a checkpoint nor a run folder with checkpoints/", path.string());
  return found;
}

int list(const fs::path& path) {
  fmt::print("{:>9}  {:<20}  {:>9}  {}\n", "step", "written", "size", "state");
  for (const FoundCheckpoint& checkpoint : checkpoints_at(path)) {
    const std::vector<std::string> damage = damage_of_checkpoint(checkpoint.folder, false);
    std::string written = "-", size = "-";
    std::int64_t step = checkpoint.step;
    if (damage.empty()) {
      const Manifest manifest = read_manifest(checkpoint.folder);
      written = manifest.created.substr(0, 19);
      size = byte_text(manifest.bytes());
      step = manifest.step;
    }
    fmt::print("{:>9}  {:<20}  {:>9}  {}\n", step, written, size,
               damage.empty() ? "whole" : "damaged: " + damage.front());
  }
  return 0;
}

int verify(const fs::path& path) {
  std::size_t damaged = 0;
  for (const FoundCheckpoint& checkpoint : checkpoints_at(path)) {
    const std::vector<std::string> damage = damage_of_checkpoint(checkpoint.folder, true);
    if (damage.empty()) {
      const Manifest manifest = read_manifest(checkpoint.folder);
      fmt::print("{}: whole, {} files, {}\n", checkpoint.folder.string(), manifest.files.size(),
                 byte_text(manifest.bytes()));
    }
    for (const std::string& line : damage) fmt::print("{}\n", line);
    damaged += damage.empty() ? 0 : 1;
  }
  std::fflush(stdout);
  if (damaged > 0) fail(ErrorCode::kData, "{}: {} damaged, named above", path.string(), damaged);
  return 0;
}

/// The newest one that is whole; all that lie after it are named on standard error.
fs::path newest_whole(const fs::path& path) {
  const std::vector<FoundCheckpoint> found = checkpoints_at(path);
  for (auto at = found.rbegin(); at != found.rend(); ++at) {
    const std::vector<std::string> damage = damage_of_checkpoint(at->folder, true);
    if (damage.empty()) return at->folder;
    fmt::print(stderr, "damaged: {}\n", fmt::join(damage, "; "));
  }
  fail(ErrorCode::kData, "{}: no checkpoint is whole", path.string());
}

int export_model(const fs::path& path, const fs::path& out) {
  if (fs::exists(out)) fail(ErrorCode::kUsage, "{} exists: name another folder", out.string());
  const fs::path checkpoint = newest_whole(path);
  const bool adapter = fs::is_directory(checkpoint / "adapter");
  const fs::path from = checkpoint / (adapter ? "adapter" : "model"),
                 target = out.has_filename() ? out : out.parent_path(), staged = target.string() + ".tmp";
  std::error_code error;
  fs::remove_all(staged, error);
  if (target.has_parent_path()) create_folders(target.parent_path());
  fs::copy(from, staged, fs::copy_options::recursive, error);
  if (!error) fs::rename(staged, target, error);
  if (error) {
    const std::string why = error.message();
    fs::remove_all(staged, error);
    fail(ErrorCode::kIo, "{}: cannot copy {} to it: {}", target.string(), from.string(), why);
  }
  fmt::print("{}: {} of {}\n", target.string(), adapter ? "adapter" : "model", checkpoint.string());
  if (adapter) fmt::print("`ferro model merge` adds it into the weights of its base\n");
  return 0;
}

CLI::App* add_command(CLI::App& group, const char* name, const char* what, fs::path& path) {
  CLI::App* command = group.add_subcommand(name, what);
  command->add_option("path", path, "Run folder, or one checkpoint in its checkpoints/.")->required();
  return command;
}

}  // namespace

void add_checkpoint_command(CLI::App& app, Action& action) {
  struct Options {
    fs::path path, out;
  };
  auto options = std::make_shared<Options>();
  CLI::App* group = app.add_subcommand("checkpoint", "Look at what a run can go on from.");
  group->require_subcommand(1);
  add_command(*group, "list", "Step, date, size and state (files and sizes) of a run's checkpoints.",
              options->path)
      ->callback([&action, options] { action = [options] { return list(options->path); }; });
  add_command(*group, "verify", "Read every file and compare checksums; exit code 65 names what is damaged.",
              options->path)
      ->callback([&action, options] { action = [options] { return verify(options->path); }; });
  CLI::App* exporting =
      add_command(*group, "export",
                  "Copy a checkpoint's model (of a run: the newest whole one's) as a Hugging Face folder.",
                  options->path);
  exporting->add_option("-o,--out", options->out, "Folder to write; it must not exist.")->required();
  exporting->callback(
      [&action, options] { action = [options] { return export_model(options->path, options->out); }; });
}

}  // namespace ferro
