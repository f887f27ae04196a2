#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/clock.h"

namespace ferro {

/// runs/<name>/: config.yaml (resolved), provenance.json, metrics.jsonl, timing.jsonl, rollouts/,
/// checkpoints/, model/. metrics.jsonl holds what repeats exactly with the same seed; times and rates go to
/// timing.jsonl. Error{kIo} on any failed write, naming the file. One writer.
class RunFolder {
 public:
  /// Error{kConfig}: the folder is not empty and not to be overwritten, or holds something that no run wrote.
  static void check_free(const std::filesystem::path& folder, bool overwrite);
  /// Creates the folder, or empties it of the run it holds, under check_free's conditions.
  RunFolder(std::filesystem::path folder, bool overwrite, const Clock& clock);
  /// `keep`: the folder's run goes on, nothing is removed. `writes` false: another process writes the folder,
  /// this object touches nothing in it.
  RunFolder(std::filesystem::path folder, bool overwrite, bool keep, const Clock& clock, bool writes = true);

  const std::filesystem::path& path() const { return path_; }
  bool writes() const { return writes_; }
  void write_config(const std::string& resolved_yaml);
  /// Adds or replaces keys: "process_ids": {"trainer": 1234}, "seed", "weights_sha256", data files with hash
  /// and row count, version, processor, threads.
  void write_provenance(const nlohmann::json& facts);
  void log_metrics(std::int64_t step,
                   const std::map<std::string, double>& metrics);  ///< NaN is written as null.
  void log_timing(std::int64_t step, const std::map<std::string, double>& timing);
  /// Adds one line of JSON to a file of the folder ("set_aside.jsonl"), creating its parents.
  void append(const std::filesystem::path& file, const nlohmann::ordered_json& line);
  /// The files that append() writes, with their sizes, flushed to the disk.
  std::map<std::string, std::uint64_t> appended_files();
  /// Cuts those files back to `sizes`; one that is not among them goes. Error{kData}: a file is missing or
  /// shorter.
  void cut_appended_files(const std::map<std::string, std::uint64_t>& sizes);
  /// Removes keys of provenance.json at the next write.
  void forget_provenance(const std::vector<std::string>& keys);
  std::filesystem::path model_folder() const { return path_ / "model"; }
  std::filesystem::path best_folder() const { return path_ / "best"; }
  std::filesystem::path adapter_folder() const { return path_ / "adapter"; }
  std::filesystem::path best_adapter_folder() const { return path_ / "best_adapter"; }

 private:
  std::filesystem::path path_;
  const Clock& clock_;
  bool writes_ = true;
  std::set<std::string> unflushed_;
  nlohmann::json provenance_ = nlohmann::json::object();
};

/// What every run records about where it ran: "version", "processor", "threads", "started" and this process
/// as each of `roles`.
nlohmann::json machine_facts(const Clock& clock, const std::vector<std::string>& roles);

}  // namespace ferro
