#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/config_dump.h"
#include "core/config_visitor.h"

namespace ferro {

/// Collects a config struct's keys as Markdown: one table a section, columns key, type, default, range,
/// meaning.
class DocsWriter {
 public:
  explicit DocsWriter(const std::string& path = {}) : path_(path) {}

  template <class T>
  void field(const char* name, const T& value, const char* doc) {
    row(name, type_name(value), YamlDumper::format(value), "", doc);
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void field(const char* name, const T& value, std::type_identity_t<Range<T>> range, const char* doc) {
    row(name, type_name(value), YamlDumper::format(value), range_text(range), doc);
  }
  void field(const char* name, const std::string& value, const Choices& choices, const char* doc);
  template <class Section>
  void section(const char* name, Section& value, const char* doc) {
    DocsWriter below(path_ + name + ".");
    value.visit(below);
    sections_ += fmt::format("\n### `{}{}`\n\n{}\n\n{}", path_, name, doc, below.text());
  }

  /// The section's own table, then those of the sections below it.
  std::string text() const;

 private:
  static const char* type_name(bool) { return "true/false"; }
  static const char* type_name(int) { return "integer"; }
  static const char* type_name(std::int64_t) { return "integer"; }
  static const char* type_name(double) { return "number"; }
  static const char* type_name(const std::string&) { return "text"; }
  static const char* type_name(const std::vector<std::string>&) { return "list of text"; }
  static const char* type_name(const std::vector<double>&) { return "list of numbers"; }
  static const char* type_name(const std::vector<std::int64_t>&) { return "list of integers"; }

  template <class T>
  static std::string range_text(Range<T> range) {
    const bool low = range.min != std::numeric_limits<T>::lowest(),
               high = range.max != std::numeric_limits<T>::max();
    if (low && high) return YamlDumper::format(range.min) + " to " + YamlDumper::format(range.max);
    if (low) return "at least " + YamlDumper::format(range.min);
    if (high) return "at most " + YamlDumper::format(range.max);
    return "";
  }

  void row(const char* name, const char* type, const std::string& value, const std::string& range,
           const char* doc);

  std::string path_, rows_, sections_;
};

/// One config file's reference: `## title`, the intro, a table for the top level and one for each section.
template <class Config>
std::string config_markdown(const std::string& title, const std::string& intro, Config defaults = {}) {
  DocsWriter writer;
  defaults.visit(writer);
  return fmt::format("## {}\n\n{}\n\n{}", title, intro, writer.text());
}

}  // namespace ferro
