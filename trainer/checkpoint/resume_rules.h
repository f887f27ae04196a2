#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// A setting that a resumed run may change, and what comes of it.
struct ChangeableSetting {
  const char* key;  ///< Path; one that ends in '.' stands for all keys of that section.
  const char* effect;
};
std::span<const ChangeableSetting> changeable_settings();
bool may_change_on_resume(const std::string& key);

/// "key: old value -> new value" for every setting that differs and may not, in the keys' order. Settings
/// that only one side has are another program version's: they are compared with nothing.
std::vector<std::string> refused_changes(const std::map<std::string, std::string>& before,
                                         const std::map<std::string, std::string>& now);

}  // namespace ferro
