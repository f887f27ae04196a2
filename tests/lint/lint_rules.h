#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ferro::lint {

struct Finding {
  std::string file;  ///< Relative to the root.
  int line = 0;
  std::string rule;  ///< "layer", "heavy-header", "include-path", "file-length", "function-length",
                     ///< "machine-path", "word", "braces", "test-name".
  std::string message;
};

struct LintReport {
  int files = 0;
  std::vector<Finding> findings;
};

/// Holds one file to the rules. `file` is its path from the root, with slashes.
std::vector<Finding> lint_file(const std::string& file, const std::string& text);

/// Every text file of the project below `root`, without hidden folders, build folders and runs.
LintReport lint_tree(const std::filesystem::path& root);

}  // namespace ferro::lint
