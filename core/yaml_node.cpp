#include "core/yaml_node.h"

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 20;

/// Builds the tree from the parser's events: yaml-cpp's own nodes accept duplicate keys and aliases silently.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> source, bool is_override)
      : source_(std::move(source)), is_override_(is_override) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override { root_ = make(mark, YamlNode::Kind::kNull); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(make(mark, YamlNode::Kind::kNull)); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "aliases (*name) are not accepted in configurations; write the value again");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    if (tag != "?" && tag != "!")
      refuse(mark, fmt::format("tag {} is not accepted; write the plain value", tag));
    YamlNode node = make(mark, YamlNode::Kind::kScalar);
    node.quoted = tag == "!";
    node.text = value;
    add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(mark, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    std::optional<std::string> key;
    std::set<std::string> seen;
  };

  YamlNode make(const YAML::Mark& mark, YamlNode::Kind kind) const {
    YamlNode node;
    node.kind = kind;
    node.source = source_;
    node.line = is_override_ ? 0 : std::max(mark.line, 0) + 1;
    return node;
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& why) const {
    fail(ErrorCode::kConfig, "{}: {}", make(mark, YamlNode::Kind::kNull).where(), why);
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (open_.size() >= kMaxDepth) refuse(mark, fmt::format("nested deeper than {} levels", kMaxDepth));
    open_.push_back({make(mark, kind), std::nullopt, {}});
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& top = open_.back();
    if (top.node.kind == YamlNode::Kind::kSequence) {
      top.node.items.push_back(std::move(node));
    } else if (!top.key) {
      if (node.kind != YamlNode::Kind::kScalar)
        fail(ErrorCode::kConfig, "{}: a key must be text, found {}", node.where(), node.describe());
      if (!top.seen.insert(node.text).second)
        fail(ErrorCode::kConfig, "{}: key `{}` stands twice in this section; remove one", node.where(),
             node.text);
      top.key = std::move(node.text);
    } else {
      top.node.keys.push_back(*std::exchange(top.key, std::nullopt));
      top.node.items.push_back(std::move(node));
    }
  }

  std::shared_ptr<const std::string> source_;
  bool is_override_;
  YamlNode root_;
  std::vector<Open> open_;
};

void apply_override(YamlNode& root, const std::string& text) {
  const std::string source = "--set " + text;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    fail(ErrorCode::kConfig, "{}: write --set section.key=value", source);
  const std::string value_text = text.substr(equals + 1);

  YamlNode value;
  if (value_text.find_first_not_of(" \t\r\n") == std::string::npos) {
    value.kind = YamlNode::Kind::kScalar;
    value.quoted = true;
    value.source = std::make_shared<const std::string>(source);
  } else {
    value = parse_yaml(value_text, source, true);
  }

  YamlNode* node = &root;
  std::string_view rest = std::string_view(text).substr(0, equals);
  while (true) {
    const std::size_t dot = rest.find('.');
    const std::string key(rest.substr(0, dot));
    if (key.empty()) fail(ErrorCode::kConfig, "{}: an empty name between dots", source);
    if (node->kind == YamlNode::Kind::kNull) node->kind = YamlNode::Kind::kMap;
    if (node->kind != YamlNode::Kind::kMap)
      fail(ErrorCode::kConfig, "{}: `{}` lies below {}, which is not a section", source, key,
           node->describe());
    auto at = std::find(node->keys.begin(), node->keys.end(), key);
    if (at == node->keys.end()) {
      node->keys.push_back(key);
      YamlNode& added = node->items.emplace_back();
      added.source = value.source;
      at = node->keys.end() - 1;
    }
    node = &node->items[static_cast<std::size_t>(at - node->keys.begin())];
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  *node = std::move(value);
}

}  // namespace

std::string YamlNode::where() const {
  const std::string name = source ? *source : "configuration";
  return line > 0 ? fmt::format("{}:{}", name, line) : name;
}

const YamlNode* YamlNode::find(std::string_view key) const {
  const auto at = std::find(keys.begin(), keys.end(), key);
  return at == keys.end() ? nullptr : &items[static_cast<std::size_t>(at - keys.begin())];
}

std::string YamlNode::describe() const {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kSequence:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  constexpr std::size_t kShown = 60;
  const std::string shown = text.size() <= kShown ? text : text.substr(0, kShown) + "...";
  return quoted ? fmt::format("the text \"{}\"", shown) : fmt::format("`{}`", shown);
}

YamlNode parse_yaml(const std::string& text, std::string source, bool is_override) {
  const auto shared_source = std::make_shared<const std::string>(std::move(source));
  TreeBuilder builder(shared_source, is_override);
  // yaml-cpp takes a quote that is never closed as closed at the end of input, but not at an end-of-document
  // mark.
  std::istringstream stream(text + (text.ends_with('\n') ? "...\n" : "\n...\n"));
  try {
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      YamlNode root = builder.take_root();
      TreeBuilder second(shared_source, is_override);
      if (parser.HandleNextDocument(second))
        fail(ErrorCode::kConfig, "{}: a second document (---) is not accepted", second.take_root().where());
      return root;
    }
  } catch (const YAML::Exception& error) {
    if (is_override) fail(ErrorCode::kConfig, "{}: not valid YAML: {}", *shared_source, error.msg);
    fail(ErrorCode::kConfig, "{}:{}:{}: not valid YAML: {}", *shared_source, std::max(error.mark.line, 0) + 1,
         std::max(error.mark.column, 0) + 1, error.msg);
  }
  YamlNode empty;
  empty.source = shared_source;
  empty.line = is_override ? 0 : 1;
  return empty;
}

YamlNode load_yaml_with_overrides(const std::filesystem::path& path,
                                  const std::vector<std::string>& overrides) {
  std::string text;
  try {
    if (!path.empty()) text = read_file(path, kMaxFileBytes);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kIo) throw;
    fail(ErrorCode::kConfig, "{}: a configuration is at most {} bytes", path.string(), kMaxFileBytes);
  }
  YamlNode root = parse_yaml(text, path.empty() ? "command line" : path.string());
  for (const std::string& override_text : overrides) apply_override(root, override_text);
  return root;
}

}  // namespace ferro
