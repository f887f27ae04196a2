#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "core/config_visitor.h"

namespace ferro {

/// Writes a config struct as YAML that YamlReader reads back to the same values: every key, text always
/// quoted, numbers exact.
class YamlDumper {
 public:
  const std::string& text() const { return text_; }

  template <class T>
  void field(const char* name, const T& value, const char* /*doc*/) {
    line(name, format(value));
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void field(const char* name, const T& value, std::type_identity_t<Range<T>> /*range*/,
             const char* /*doc*/) {
    line(name, format(value));
  }
  void field(const char* name, const std::string& value, const Choices& /*choices*/, const char* /*doc*/) {
    line(name, format(value));
  }
  template <class Section>
  void section(const char* name, Section& value, const char* /*doc*/) {
    line(name, "");
    const std::size_t size = text_.size();
    ++depth_;
    value.visit(*this);
    --depth_;
    if (text_.size() == size) text_.insert(size - 1, " {}");
  }

  static std::string format(bool value);
  static std::string format(int value);
  static std::string format(std::int64_t value);
  static std::string format(
      double value);  ///< Shortest text that reads back to the same bits. REQUIRES: finite.
  static std::string format(const std::string& value);
  template <class T>
  static std::string format(const std::vector<T>& values) {
    std::string list;
    for (const T& value : values) list += (list.empty() ? "" : ", ") + format(value);
    return "[" + list + "]";
  }

 private:
  void line(const char* name, const std::string& value);
  std::string text_;
  int depth_ = 0;
};

/// The resolved configuration: reading it starts the same run again.
template <class Config>
std::string dump_yaml(Config config) {
  YamlDumper dumper;
  config.visit(dumper);
  return dumper.text();
}

}  // namespace ferro
