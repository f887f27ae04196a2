#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// A YAML document of the plain kind that configurations are: maps with text keys, sequences, scalars.
/// Aliases, tags, duplicate keys, a second document and nesting above 64 levels are refused when it is
/// parsed.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  Kind kind = Kind::kNull;
  bool quoted = false;                        ///< A scalar in quotes is text, whatever it looks like.
  std::string text;                           ///< Of a scalar.
  std::vector<std::string> keys;              ///< Of a map, in file order; items[i] is the value of keys[i].
  std::vector<YamlNode> items;                ///< Of a map or a sequence.
  std::shared_ptr<const std::string> source;  ///< File name, or the override's text.
  int line = 0;                               ///< From 1; 0: an override.

  /// `file:line`, or `--set a.b=c`.
  std::string where() const;
  /// The value of `key` in a map; nullptr when absent.
  const YamlNode* find(std::string_view key) const;
  /// "text", "a map", ... for messages.
  std::string describe() const;
};

/// Error{kConfig} naming `source`, line and column. An override has no lines: `source` alone says where.
YamlNode parse_yaml(const std::string& text, std::string source, bool is_override = false);

/// Reads the file (at most 1 MiB; an empty path: no keys) and applies `section.key=value` in order; the value
/// is YAML, nothing after
/// `=` is an empty text. Error{kIo}: unreadable; Error{kConfig}: everything else.
YamlNode load_yaml_with_overrides(const std::filesystem::path& path,
                                  const std::vector<std::string>& overrides);

}  // namespace ferro
