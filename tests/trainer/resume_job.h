#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/core/expect_error.h"
#include "tests/trainer/tiny_job.h"

namespace ferro::testing {

/// Everything a run leaves but what differs by nature: times, log, facts about processes, and, of
/// checkpoints, state and manifest, which hold those.
inline std::map<std::string, std::string> lasting_files(const std::filesystem::path& run) {
  static const std::set<std::string> kDiffer{"timing.jsonl", "log.txt",    "provenance.json",
                                             "config.yaml",  "state.json", "manifest.json"};
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
    const std::string name = entry.path().lexically_relative(run).generic_string();
    if (!entry.is_regular_file() || kDiffer.contains(entry.path().filename().string()) ||
        name.starts_with("incarnations/"))
      continue;
    files[name] = read_file(entry.path());
  }
  return files;
}

/// What a run that is killed after the checkpoint of `step`, just before the next one, leaves of the finished
/// run `from`: later checkpoints are not there, every other file is ahead of the checkpoint.
inline void copy_killed_run(const std::filesystem::path& from, const std::filesystem::path& to,
                            std::int64_t step) {
  namespace fs = std::filesystem;
  fs::copy(from, to, fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(from / "checkpoints"))
    if (std::stoll(entry.path().filename().string().substr(5)) > step)
      fs::remove_all(to / "checkpoints" / entry.path().filename());
  auto facts = nlohmann::json::parse(read_file(to / "provenance.json"));
  facts.erase("finished_steps");
  write_file_atomically(to / "provenance.json", facts.dump());
  fs::remove_all(to / "model");
  fs::remove(to / "evaluation.json");
}

/// Names of files whose bytes differ, or that only one side has.
inline std::set<std::string> differences(const std::filesystem::path& a, const std::filesystem::path& b) {
  std::set<std::string> names;
  const auto left = lasting_files(a), right = lasting_files(b);
  for (const auto& [name, bytes] : left)
    if (!right.contains(name) || right.at(name) != bytes) names.insert(name);
  for (const auto& [name, bytes] : right)
    if (!left.contains(name)) names.insert(name);
  return names;
}

}  // namespace ferro::testing
