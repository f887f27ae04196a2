#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/config_docs.h"
#include "core/config_dump.h"
#include "core/yaml_reader.h"

namespace ferro {

/// Reads `path` into `config` (defaults stand where a key is absent), then applies the overrides
/// `section.key=value` in order (the value is YAML). Strict: an unknown key, a wrong type, a value out of
/// range or a broken cross-field rule is an Error{kConfig} with file, line, key path, and the nearest known
/// key. A missing or unreadable file: Error{kIo}. YAML that does not parse: Error{kConfig} with line and
/// column.
template <class Config>
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  Config config;
  const YamlNode root = load_yaml_with_overrides(path, overrides);
  YamlReader(root, "").read(config);
  return config;
}

}  // namespace ferro
