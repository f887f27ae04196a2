#include <cstdio>
#include <exception>

#include "tests/lint/lint_rules.h"

/// ferro_lint ROOT: prints what breaks the project's rules and ends with 1 when anything does.
int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fputs("usage: ferro_lint ROOT\n", stderr);
    return 64;
  }
  const ferro::lint::LintReport report = ferro::lint::lint_tree(argv[1]);
  for (const ferro::lint::Finding& finding : report.findings)
    std::printf("%s:%d: %s: %s\n", finding.file.c_str(), finding.line, finding.rule.c_str(),
                finding.message.c_str());
  std::printf("%d files, %zu findings\n", report.files, report.findings.size());
  return report.findings.empty() && report.files > 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "ferro_lint: %s\n", error.what());
  return 74;
}
