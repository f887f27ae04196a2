#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <utility>

#include "core/config_dump.h"
#include "core/config_visitor.h"

namespace ferro {

/// Collects a config struct's values by key path, as YamlDumper writes them: what two configurations are
/// compared by.
class ConfigValues {
 public:
  explicit ConfigValues(std::map<std::string, std::string>& values, std::string prefix = {})
      : values_(values), prefix_(std::move(prefix)) {}

  template <class T>
  void field(const char* name, const T& value, const char* /*doc*/) {
    values_[prefix_ + name] = YamlDumper::format(value);
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void field(const char* name, const T& value, std::type_identity_t<Range<T>> /*range*/, const char* doc) {
    field(name, value, doc);
  }
  void field(const char* name, const std::string& value, const Choices& /*choices*/, const char* doc) {
    field(name, value, doc);
  }
  template <class Section>
  void section(const char* name, Section& value, const char* /*doc*/) {
    ConfigValues below(values_, prefix_ + name + ".");
    value.visit(below);
  }

 private:
  std::map<std::string, std::string>& values_;
  std::string prefix_;
};

template <class Config>
std::map<std::string, std::string> config_values(Config config) {
  std::map<std::string, std::string> values;
  ConfigValues collector(values);
  config.visit(collector);
  return values;
}

}  // namespace ferro
