#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "core/clock.h"

namespace ferro {

/// runs/<name>/: config.yaml (resolved), provenance.json, metrics.jsonl, timing.jsonl, rollouts/, checkpoints/, model/. metrics.jsonl holds what repeats exactly with
/// the same seed; times and rates go to timing.jsonl. Error{kIo} on any failed write, naming the file. One writer.
class RunFolder {
 public:
  /// Creates the folder; one that holds a finished or foreign run is refused (Error{kConfig}) unless `overwrite`.
  RunFolder(std::filesystem::path folder, bool overwrite, const Clock& clock);

  const std::filesystem::path& path() const { return path_; }
  void write_config(const std::string& resolved_yaml);
  /// Adds or replaces keys: "process_ids": {"trainer": 1234}, "seed", "weights_sha256", data files with hash and row count, version, processor, threads.
  void write_provenance(const nlohmann::json& facts);
  void log_metrics(std::int64_t step, const std::map<std::string, double>& metrics);  ///< NaN is written as null.
  void log_timing(std::int64_t step, const std::map<std::string, double>& timing);
  std::filesystem::path model_folder() const { return path_ / "model"; }

 private:
  std::filesystem::path path_;
  const Clock& clock_;
  nlohmann::json provenance_;
  std::ofstream metrics_, timing_;
};

}  // namespace ferro
