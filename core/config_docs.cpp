#include "core/config_docs.h"

#include <string_view>

namespace ferro {
namespace {

std::string cell(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

}  // namespace

void DocsWriter::field(const char* name, const std::string& value, const Choices& choices, const char* doc) {
  std::string range;
  for (const char* choice : choices) range += fmt::format("{}`{}`", range.empty() ? "" : ", ", choice);
  row(name, type_name(value), YamlDumper::format(value), range, doc);
}

void DocsWriter::row(const char* name, const char* type, const std::string& value, const std::string& range,
                     const char* doc) {
  rows_ += fmt::format("| `{}{}` | {} | `{}` | {} | {} |\n", path_, name, type, cell(value), cell(range),
                       cell(doc));
}

std::string DocsWriter::text() const {
  const std::string header =
      rows_.empty() ? "" : "| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
  return header + rows_ + sections_;
}

}  // namespace ferro
