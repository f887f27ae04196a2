#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/config_visitor.h"
#include "core/yaml_node.h"

namespace ferro {

/// Paths of all keys of a config struct below `prefix`.
class KeyPaths {
 public:
  KeyPaths(std::string prefix, std::vector<std::string>& paths) : prefix_(std::move(prefix)), paths_(paths) {}
  template <class T>
  void field(const char* name, const T& /*value*/, const char* /*doc*/) {
    paths_.push_back(prefix_ + name);
  }
  template <class T>
  requires(std::integral<T> || std::floating_point<T>) void field(const char* name, const T& value,
                                                                  std::type_identity_t<Range<T>> /*range*/,
                                                                  const char* doc) {
    field(name, value, doc);
  }
  void field(const char* name, const std::string& value, const Choices& /*choices*/, const char* doc) {
    field(name, value, doc);
  }
  template <class Section>
  void section(const char* name, Section& value, const char* /*doc*/) {
    KeyPaths below(prefix_ + name + ".", paths_);
    value.visit(below);
  }

 private:
  std::string prefix_;
  std::vector<std::string>& paths_;
};

/// Fills a config struct from YAML. Strict: an unknown or repeated key, a wrong type, a number that is not
/// finite or out of range, a choice that does not exist, a section that is not a map: Error{kConfig}
/// `file:line: path.key: why`. An absent key leaves the default. `node` outlives the reader.
class YamlReader {
 public:
  YamlReader(const YamlNode& node, std::string path);

  /// Visits `config`, refuses the keys that it does not have, then applies its own cross-field rules.
  template <class Config>
  void read(Config& config) {
    config.visit(*this);
    refuse_unknown_keys();
    const auto report = [this](std::string_view key, std::string_view why) { refuse(key, why); };
    if constexpr (requires { config.validate(report); }) config.validate(report);
  }

  template <class T>
  void field(const char* name, T& value, const char* /*doc*/) {
    if (const YamlNode* node = take(name)) parse(name, *node, value);
  }

  template <class T>
  requires(std::integral<T> || std::floating_point<T>) void field(const char* name, T& value,
                                                                  std::type_identity_t<Range<T>> range,
                                                                  const char* doc) {
    field(name, value, doc);
    if (!(value >= range.min && value <= range.max)) refuse_range(name, value, range);
  }

  void field(const char* name, std::string& value, const Choices& choices, const char* doc);

  template <class Section>
  void section(const char* name, Section& value, const char* /*doc*/) {
    const YamlNode* node = take(name);
    KeyPaths keys(std::string(name) + ".", below_);
    value.visit(keys);
    if (node == nullptr) {
      YamlNode absent;
      absent.kind = YamlNode::Kind::kMap;
      absent.source = node_.source;
      absent.line = node_.line;
      YamlReader(absent, path_ + name + ".").read(value);
    } else {
      YamlReader(*node, path_ + name + ".").read(value);
    }
  }

 private:
  const YamlNode* take(const char* name);
  void refuse_unknown_keys() const;
  std::string hint_for(std::string_view key) const;
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;
  [[noreturn]] void refuse_type(const char* name, const YamlNode& node, std::string_view expected) const;
  void refuse_range(const char* name, std::int64_t value, Range<std::int64_t> range) const;
  void refuse_range(const char* name, int value, Range<int> range) const;
  void refuse_range(const char* name, double value, Range<double> range) const;

  void parse(const char* name, const YamlNode& node, bool& value) const;
  void parse(const char* name, const YamlNode& node, int& value) const;
  void parse(const char* name, const YamlNode& node, std::int64_t& value) const;
  void parse(const char* name, const YamlNode& node, double& value) const;
  void parse(const char* name, const YamlNode& node, std::string& value) const;
  template <class T>
  void parse(const char* name, const YamlNode& node, std::vector<T>& values) const {
    if (node.kind != YamlNode::Kind::kSequence) refuse_type(name, node, "a list, such as [a, b]");
    values.clear();
    for (const YamlNode& item : node.items) parse(name, item, values.emplace_back());
  }

  const YamlNode& node_;
  std::string path_;
  std::vector<std::string> known_;  ///< Keys of this section.
  std::vector<std::string> below_;  ///< Paths of the keys in sections below it.
};

}  // namespace ferro
