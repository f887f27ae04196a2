#pragma once

#include <string>
#include <vector>

namespace ferro::lint {

/// The text of a C++ file with comments, literals' content and preprocessor lines blanked out: same length,
/// same lines.
std::string code_only(const std::string& text);

/// What stands in #include lines, with its quotes or brackets.
struct Include {
  int line = 0;
  bool quoted = false;
  std::string target;
};
std::vector<Include> includes_of(const std::string& text);

/// A function body, by its braces.
struct FunctionBody {
  int first_line = 0, last_line = 0;
  std::string heading;  ///< What stands before the brace.
  int lines() const { return last_line - first_line + 1; }
};

/// Function bodies at namespace and class level (what is nested in them belongs to them). `balanced` is false
/// when the file's braces do not match, and nothing can be said about it.
struct Functions {
  bool balanced = true;
  std::vector<FunctionBody> bodies;
};
Functions functions_of(const std::string& text);

}  // namespace ferro::lint
