#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace ferro {

struct StageReportOptions {
  std::string base, sft, grpo;       ///< Prefixes of `ferro eval --json PREFIX.json --out PREFIX.jsonl`.
  std::vector<std::string> seconds;  ///< "train_grpo=61.5"
  std::int64_t faces = 0;
  std::uint64_t seed = 0;
  std::size_t examples = 3;
  std::filesystem::path out;
};

struct StageReport {
  std::string text;
  /// accuracy_base, accuracy_sft, accuracy_grpo, macro_recall_*, faces, held_out_faces, grpo_minus_sft
  /// {difference, low, high}, seconds {stage: s}, seed.
  nlohmann::ordered_json summary;
};

/// Error{kIo}, Error{kData}, Error{kUsage}: a file missing, malformed, or a `seconds` entry that is not
/// NAME=NUMBER.
StageReport stage_report(const StageReportOptions& options);

}  // namespace ferro
