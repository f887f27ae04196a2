#include "core/config_dump.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "core/error.h"

namespace ferro {
namespace {

/// Line separators and the byte order mark, in UTF-8, which YAML readers may fold or drop.
struct Escape {
  std::string_view bytes, text;
};
constexpr std::array<Escape, 4> kEscapes{{{"\xc2\x85", "\\u0085"},
                                          {"\xe2\x80\xa8", "\\u2028"},
                                          {"\xe2\x80\xa9", "\\u2029"},
                                          {"\xef\xbb\xbf", "\\uFEFF"}}};

}  // namespace

std::string YamlDumper::format(bool value) {
  return value ? "true" : "false";
}

std::string YamlDumper::format(int value) {
  return fmt::format("{}", value);
}

std::string YamlDumper::format(std::int64_t value) {
  return fmt::format("{}", value);
}

std::string YamlDumper::format(double value) {
  FERRO_CHECK(std::isfinite(value), "a setting is {}", value);
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string YamlDumper::format(const std::string& value) {
  std::string quoted = "\"";
  for (std::size_t i = 0; i < value.size();) {
    const std::string_view rest = std::string_view(value).substr(i);
    const auto* escape = std::find_if(kEscapes.begin(), kEscapes.end(), [&](const Escape& candidate) {
      return rest.starts_with(candidate.bytes);
    });
    if (escape != kEscapes.end()) {
      quoted += escape->text;
      i += escape->bytes.size();
      continue;
    }
    const char c = value[i++];
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      quoted += fmt::format("\\x{:02X}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

void YamlDumper::line(const char* name, const std::string& value) {
  text_.append(static_cast<std::size_t>(2 * depth_), ' ').append(name).append(":");
  if (!value.empty()) text_.append(" ").append(value);
  text_.append("\n");
}

}  // namespace ferro
