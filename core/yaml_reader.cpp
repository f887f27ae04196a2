#include "core/yaml_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/nearest_word.h"

namespace ferro {
namespace {

/// Numbers are written plainly: no quotes, a leading + is YAML's and harmless, the whole text counts.
template <class T>
std::errc number_from(const YamlNode& node, T& value) {
  if (node.kind != YamlNode::Kind::kScalar || node.quoted) return std::errc::invalid_argument;
  std::string_view text = node.text;
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return error;
  return end == text.data() + text.size() ? std::errc{} : std::errc::invalid_argument;
}

constexpr std::size_t kLongestKey = 200;

template <class T>
std::string range_text(const char* number_format, Range<T> range) {
  const auto show = [&](T bound) { return fmt::format(fmt::runtime(number_format), bound); };
  if (range.max == std::numeric_limits<T>::max()) return "at least " + show(range.min);
  if (range.min == std::numeric_limits<T>::lowest()) return "at most " + show(range.max);
  return "from " + show(range.min) + " to " + show(range.max);
}

}  // namespace

YamlReader::YamlReader(const YamlNode& node, std::string path) : node_(node), path_(std::move(path)) {
  const bool empty_document = path_.empty() && node_.kind == YamlNode::Kind::kNull;
  if (node_.kind != YamlNode::Kind::kMap && !empty_document)
    fail(ErrorCode::kConfig, "{}: {}: expected a section (a map of key: value), found {}", node_.where(),
         path_.empty() ? "document" : path_.substr(0, path_.size() - 1), node_.describe());
}

void YamlReader::field(const char* name, std::string& value, const Choices& choices, const char* doc) {
  field(name, value, doc);
  for (const char* choice : choices)
    if (value == choice) return;
  refuse(name, fmt::format("`{}` is not one of {}", value, fmt::join(choices, ", ")));
}

const YamlNode* YamlReader::take(const char* name) {
  known_.emplace_back(name);
  return node_.find(name);
}

std::string YamlReader::hint_for(std::string_view key) const {
  // A key of any length can stand in a file; beyond this it resembles nothing.
  if (key.size() > kLongestKey) return "";
  std::string_view nearest;
  std::size_t fewest = 0;
  const auto consider = [&](std::string_view name, std::string_view compared) {
    const std::size_t edits = edit_distance(key, compared);
    if (!nearest.empty() && edits >= fewest) return;
    nearest = name;
    fewest = edits;
  };
  for (const std::string& name : known_) consider(name, name);
  for (const std::string& name : below_) consider(name, std::string_view(name).substr(name.rfind('.') + 1));
  return nearest.empty() ? "" : fmt::format("; the nearest known key is `{}{}`", path_, nearest);
}

void YamlReader::refuse_unknown_keys() const {
  for (std::size_t i = 0; i < node_.keys.size(); ++i) {
    const std::string& key = node_.keys[i];
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    fail(ErrorCode::kConfig, "{}: {}{}: unknown key{}", node_.items[i].where(), path_,
         key.substr(0, kLongestKey), hint_for(key));
  }
}

void YamlReader::refuse(std::string_view key, std::string_view why) const {
  // A rule of a section may name a key below it: the deepest node that the file has says where.
  const YamlNode* at = &node_;
  std::string_view rest = key;
  while (true) {
    const std::size_t dot = rest.find('.');
    const YamlNode* below = at->find(rest.substr(0, dot));
    if (below == nullptr) break;
    at = below;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  fail(ErrorCode::kConfig, "{}: {}{}: {}", at->where(), path_, key, why);
}

void YamlReader::refuse_type(const char* name, const YamlNode& node, std::string_view expected) const {
  fail(ErrorCode::kConfig, "{}: {}{}: expected {}, found {}", node.where(), path_, name, expected,
       node.describe());
}

void YamlReader::refuse_range(const char* name, std::int64_t value, Range<std::int64_t> range) const {
  refuse(name, fmt::format("{} is out of range: must be {}", value, range_text("{}", range)));
}

void YamlReader::refuse_range(const char* name, int value, Range<int> range) const {
  refuse(name, fmt::format("{} is out of range: must be {}", value, range_text("{}", range)));
}

void YamlReader::refuse_range(const char* name, double value, Range<double> range) const {
  refuse(name, fmt::format("{} is out of range: must be {}", value, range_text("{}", range)));
}

void YamlReader::parse(const char* name, const YamlNode& node, bool& value) const {
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  if (!plain || (node.text != "true" && node.text != "false")) refuse_type(name, node, "true or false");
  value = node.text == "true";
}

void YamlReader::parse(const char* name, const YamlNode& node, int& value) const {
  if (number_from(node, value) != std::errc{}) refuse_type(name, node, "a whole number");
}

void YamlReader::parse(const char* name, const YamlNode& node, std::int64_t& value) const {
  const std::errc error = number_from(node, value);
  if (error == std::errc::result_out_of_range) refuse_type(name, node, "a whole number of at most 64 bits");
  if (error != std::errc{}) refuse_type(name, node, "a whole number");
}

void YamlReader::parse(const char* name, const YamlNode& node, double& value) const {
  double parsed = 0.0;
  if (number_from(node, parsed) != std::errc{} || !std::isfinite(parsed))
    refuse_type(name, node, "a finite number");
  value = parsed;
}

void YamlReader::parse(const char* name, const YamlNode& node, std::string& value) const {
  if (node.kind == YamlNode::Kind::kNull) refuse_type(name, node, "text (\"\" for an empty one)");
  if (node.kind != YamlNode::Kind::kScalar) refuse_type(name, node, "text");
  value = node.text;
}

}  // namespace ferro
