#include "tests/lint/source_text.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <set>
#include <sstream>

namespace ferro::lint {
namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

/// Walks a file once and blanks what is not code.
class Blanker {
 public:
  explicit Blanker(const std::string& text) : text_(text), code_(text) {}

  std::string run() {
    while (at_ < text_.size()) step();
    return code_;
  }

 private:
  void step() {
    const char c = text_[at_];
    if (text_.compare(at_, 2, "//") == 0) {
      blank_until(end_of_line(false));
    } else if (text_.compare(at_, 2, "/*") == 0) {
      blank_until(after("*/", at_ + 2));
    } else if (c == '#' && first_on_line()) {
      blank_until(end_of_line(true));
    } else if (c == '"' && raw_prefix()) {
      const std::size_t open = text_.find('(', at_);
      const std::string delimiter = text_.substr(at_ + 1, open - at_ - 1);
      blank_until(after(")" + delimiter + "\"", at_));
    } else if (c == '"' || (c == '\'' && !digit_separator())) {
      blank_literal(c);
    } else {
      ++at_;
    }
  }

  /// Past the end of the line; with `continued`, past the lines that a backslash joins to it.
  std::size_t end_of_line(bool continued) const {
    std::size_t end = text_.find('\n', at_);
    while (continued && end != std::string::npos && end > 0 && text_[end - 1] == '\\')
      end = text_.find('\n', end + 1);
    return std::min(end, text_.size());
  }

  std::size_t after(const std::string& mark, std::size_t from) const {
    const std::size_t found = text_.find(mark, from);
    return found == std::string::npos ? text_.size() : found + mark.size();
  }

  bool first_on_line() const {
    const std::size_t before = text_.find_last_not_of(" \t", at_ - 1);
    return at_ == 0 || before == std::string::npos || text_[before] == '\n';
  }

  bool raw_prefix() const {
    if (at_ == 0 || text_[at_ - 1] != 'R') return false;
    std::size_t begin = at_ - 1;
    while (begin > 0 && is_word(text_[begin - 1])) --begin;
    const std::string prefix = text_.substr(begin, at_ - begin);
    return prefix == "R" || prefix == "u8R" || prefix == "uR" || prefix == "UR" || prefix == "LR";
  }

  bool digit_separator() const {
    std::size_t begin = at_;
    while (begin > 0 && (is_word(text_[begin - 1]) || text_[begin - 1] == '\'')) --begin;
    return begin < at_ && std::isdigit(static_cast<unsigned char>(text_[begin])) != 0;
  }

  void blank_literal(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n') end += text_[end] == '\\' ? 2 : 1;
    blank_until(std::min(end + 1, text_.size()));
  }

  void blank_until(std::size_t end) {
    for (; at_ < end; ++at_)
      if (text_[at_] != '\n') code_[at_] = ' ';
  }

  const std::string& text_;
  std::string code_;
  std::size_t at_ = 0;
};

std::string without_template_head(std::string heading) {
  while (true) {
    const std::size_t begin = heading.find_first_not_of(" \t\n");
    if (begin == std::string::npos || heading.compare(begin, 8, "template") != 0) return heading;
    std::size_t end = heading.find('<', begin);
    int depth = 0;
    for (; end < heading.size(); ++end) {
      if (heading[end] == '<') ++depth;
      if (heading[end] == '>' && heading[end - 1] != '-' && --depth == 0) break;
    }
    heading.erase(0, std::min(end + 1, heading.size()));
  }
}

enum class Brace { kScope, kFunction, kOther };

/// The first word that is no specifier.
std::string leading_keyword(const std::string& heading) {
  std::istringstream words(heading);
  std::string word;
  while (words >> word)
    if (word != "inline" && word != "export" && word != "static" && word != "constexpr" && word != "typedef")
      break;
  return word.substr(0, word.find_first_of("{(:<"));
}

/// `... )` and what may follow a parameter list.
bool ends_like_call(const std::string& heading) {
  const std::size_t close = heading.rfind(')');
  if (close == std::string::npos) return false;
  std::istringstream words(heading.substr(close + 1));
  std::string word;
  while (words >> word) {
    if (word.starts_with("->")) return true;
    if (word != "const" && word != "noexcept" && word != "override" && word != "final" && word != "&" &&
        word != "&&")
      return false;
  }
  return true;
}

/// What an opening brace at namespace or class level begins, by the statement before it.
Brace kind_of(const std::string& statement) {
  static const std::set<std::string> kScopes{"namespace", "class", "struct", "union", "enum", "extern"};
  const std::string heading = without_template_head(statement);
  if (kScopes.contains(leading_keyword(heading)) && !ends_like_call(heading)) return Brace::kScope;
  return heading.find('(') != std::string::npos ? Brace::kFunction : Brace::kOther;
}

bool is_access_label(const std::string& statement) {
  const std::string word = leading_keyword(statement);
  return word == "public" || word == "protected" || word == "private";
}

std::string one_line(const std::string& text) {
  std::istringstream words(text);
  std::string word, joined;
  while (words >> word) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

}  // namespace

std::string code_only(const std::string& text) {
  return Blanker(text).run();
}

std::vector<Include> includes_of(const std::string& text) {
  static const std::regex kInclude("^\\s*#\\s*include\\s*([\"<])([^\">]+)[\">]");
  std::vector<Include> includes;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::smatch match;
    if (line.find('#') != std::string::npos && std::regex_search(line, match, kInclude))
      includes.push_back({number, match[1] == "\"", match[2]});
  }
  return includes;
}

Functions functions_of(const std::string& text) {
  const std::string code = code_only(text);
  Functions functions;
  std::vector<Brace> open;
  std::string statement;
  bool closed = false;  // A body or an initialiser has just ended at this level.
  int line = 1;
  for (const char c : code) {
    const bool inside = !open.empty() && open.back() != Brace::kScope;
    if (c == '\n') ++line;
    if (closed && std::isspace(static_cast<unsigned char>(c)) == 0) {
      // Only a list of member initialisers goes on: `A() : a_{1}, b_{2} {`.
      if (c != ',' && c != '{') statement.clear();
      closed = false;
    }
    if (c == '{') {
      // Everything within a function, or within an initialiser, belongs to it.
      const Brace kind = inside ? Brace::kOther : kind_of(statement);
      if (kind == Brace::kFunction) functions.bodies.push_back({line, line, one_line(statement)});
      if (kind == Brace::kScope) statement.clear();
      open.push_back(kind);
    } else if (c == '}') {
      if (open.empty()) {
        functions.balanced = false;
        return functions;
      }
      if (open.back() == Brace::kFunction) functions.bodies.back().last_line = line;
      open.pop_back();
      closed = open.empty() || open.back() == Brace::kScope;
    } else if (!inside) {
      statement += c;
      if (c == ';' || (c == ':' && is_access_label(statement))) statement.clear();
    }
  }
  functions.balanced = open.empty();
  return functions;
}

}  // namespace ferro::lint
