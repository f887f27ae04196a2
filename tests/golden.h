#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace ferro::testing {

inline std::optional<std::filesystem::path> folder_from(const char* variable, const char* fallback) {
  const char* value = std::getenv(variable);
  const std::filesystem::path path = value != nullptr && *value != '\0'
                                         ? std::filesystem::path(value)
                                         : std::filesystem::path(FERRO_SOURCE_DIR) / fallback;
  if (std::filesystem::exists(path)) return path;
  return std::nullopt;
}

/// Tensors and cases computed by transformers and TRL.
inline std::optional<std::filesystem::path> golden_dir() {
  return folder_from("FERRO_GOLDEN_DIR", "../shared/golden");
}
/// The FER+ faces.
inline std::optional<std::filesystem::path> faces_dir() {
  return folder_from("FERRO_FACES_DIR", "../shared/data/ferplus48");
}
/// The Qwen2.5-VL tokenizer files.
inline std::optional<std::filesystem::path> tokenizer_dir() {
  return folder_from("FERRO_TOKENIZER_DIR", "../shared/data/qwen2_tokenizer");
}
/// The four question files of FERBench.
inline std::optional<std::filesystem::path> ferbench_dir() {
  return folder_from("FERRO_FERBENCH_DIR", "../shared/data/ferbench");
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

/// Ends a test case that needs something absent: CTest counts it as skipped by this line.
#define FERRO_SKIP_UNLESS(optional_path, what)                    \
  do {                                                            \
    if (!(optional_path)) {                                       \
      std::cout << "FERRO_SKIPPED: " << (what) << " is absent\n"; \
      return;                                                     \
    }                                                             \
  } while (false)

/// One line per golden comparison: the largest difference beside its tolerance.
inline void report_difference(const std::string& what, double difference, double tolerance) {
  std::cout << "golden " << what << ": largest difference " << difference << " (tolerance " << tolerance
            << ")\n";
}

}  // namespace ferro::testing
