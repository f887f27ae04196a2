#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "trainer/data_config.h"

namespace ferro {

enum class ConfigKind { kSft, kGrpo };

/// "sft" or "grpo"; Error{kUsage} for anything else.
ConfigKind config_kind_of(const std::string& name);
const char* name_of(ConfigKind kind);

/// The kind whose keys fit the file's top level best (a tie: sft). Error{kIo}, Error{kConfig} as load_config.
ConfigKind detect_config_kind(const std::filesystem::path& path);

/// What evaluation must take from a training configuration, so that a model is asked as it was trained.
struct AskedAsTrained {
  DataConfig data;
  std::int64_t max_new_tokens = 0;
};
AskedAsTrained asked_as_trained(const std::filesystem::path& config);

}  // namespace ferro
