#pragma once

#include <cmath>
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

/// Tensors and cases computed by transformers and TRL: the full set where it is, else the part of it in
/// tests/golden.
inline std::optional<std::filesystem::path> golden_dir() {
  const auto full = folder_from("FERRO_GOLDEN_DIR", "../shared/golden");
  const char* chosen = std::getenv("FERRO_GOLDEN_DIR");
  if (full || (chosen != nullptr && *chosen != '\0')) return full;
  return std::filesystem::path(FERRO_SOURCE_DIR) / "tests/golden";
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

/// Whether the set's manifest has the part that a JSON pointer names.
inline bool golden_has(const std::filesystem::path& golden, const std::string& pointer) {
  return read_json(golden / "manifest.json").contains(nlohmann::json::json_pointer(pointer));
}

/// Ends a test case that needs a part ("/grpo/e2e") which this golden set has not got.
#define FERRO_SKIP_UNLESS_GOLDEN(golden, pointer)                                    \
  do {                                                                               \
    FERRO_SKIP_UNLESS(golden, "the golden folder");                                  \
    if (!::ferro::testing::golden_has(*(golden), pointer)) {                         \
      std::cout << "FERRO_SKIPPED: this golden folder has no " << (pointer) << '\n'; \
      return;                                                                        \
    }                                                                                \
  } while (false)

/// The larger of two differences. A NaN is larger than any number and stays: no tolerance lets it pass.
inline double worse_of(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

// One line per golden comparison. tests/run.sh collects them by their form.

/// The largest difference beside its tolerance.
inline void report_difference(const std::string& what, double difference, double tolerance) {
  std::cout << "golden " << what << ": largest difference " << difference << " (tolerance " << tolerance
            << ")\n";
}

/// A comparison that allows no difference: how many items (ids, tokens, bytes, rows) it compared.
inline void report_equality(const std::string& what, std::size_t compared, std::size_t different) {
  std::cout << "golden " << what << ": " << different << " of " << compared << " differ (exact)\n";
}

}  // namespace ferro::testing
