#include "tests/lint/lint_rules.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tests/lint/source_text.h"

namespace ferro::lint {
namespace {

namespace fs = std::filesystem;

constexpr std::ptrdiff_t kMaxFileLines = 600, kMaxKernelFileLines = 800;
constexpr int kMaxFunctionLines = 100;

/// The layer table of docs/architecture.md, section 2. proto is allowed to all but stops at *_wire (see heavy
/// headers).
const std::map<std::string, std::set<std::string>>& layers() {
  static const std::map<std::string, std::set<std::string>> kLayers{
      {"core", {}},
      {"proto", {}},
      {"data", {"core", "proto"}},
      {"reward", {"core", "data", "proto"}},
      {"model", {"core", "data", "proto"}},
      {"rollout", {"core", "data", "proto", "model"}},
      {"trainer", {"core", "data", "proto", "reward", "model", "rollout"}},
      {"launch", {"core", "data", "proto", "reward", "model", "rollout", "trainer"}},
  };
  return kLayers;
}

/// A header that only some files may include. Both are searched, not matched whole.
struct HeavyHeader {
  std::regex header, allowed;
  const char* why;
};

const std::vector<HeavyHeader>& heavy_headers() {
  static const std::vector<HeavyHeader> kHeavy{
      {std::regex("^torch/torch\\.h$"), std::regex("$^"),
       "torch/torch.h is never included: it costs 12 s a file"},
      {std::regex("^torch/csrc/distributed/"), std::regex("^model/(dist/|aten\\.h$)"),
       "only model/dist talks to c10d"},
      // Parallel.h is light, and not part of ATen/ATen.h.
      {std::regex("^(ATen/(?!Parallel\\.h$)|torch/)"), std::regex("^model/(aten\\.h$|dist/|kernels/)"),
       "LibTorch comes through model/aten.h, the one precompiled header"},
      {std::regex("^opencv2/"), std::regex("^(data/image/|data/faces/|tests/data/|tests/bench/)"),
       "OpenCV stays in data/image and data/faces"},
      {std::regex("\\.pb\\.h$"), std::regex("_(wire|service|client)\\.(h|cpp)$"),
       "generated types stop at *_wire, *_service and *_client files"},
      {std::regex("^(nccl\\.h|gloo/)"), std::regex("^model/dist/"), "NCCL and Gloo stay in model/dist"},
  };
  return kHeavy;
}

bool has_extension(const std::string& file, const std::set<std::string>& extensions) {
  return extensions.contains(fs::path(file).extension().string());
}

bool is_cpp(const std::string& file) {
  return has_extension(file, {".h", ".cpp", ".cu", ".cuh"});
}

bool is_text(const std::string& file) {
  return is_cpp(file) || fs::path(file).filename() == "CMakeLists.txt" ||
         has_extension(file, {".cmake", ".sh", ".md", ".yaml", ".yml", ".proto", ".py", ".json"});
}

std::string first_folder(const std::string& path) {
  return path.substr(0, path.find('/'));
}

void check_includes(const std::string& file, const std::string& text, std::vector<Finding>& findings) {
  const auto own = layers().find(first_folder(file));
  for (const Include& include : includes_of(text)) {
    for (const HeavyHeader& heavy : heavy_headers())
      if (std::regex_search(include.target, heavy.header) && !std::regex_search(file, heavy.allowed)) {
        findings.push_back(
            {file, include.line, "heavy-header", "includes " + include.target + ": " + heavy.why});
        break;
      }
    if (!include.quoted || own == layers().end()) continue;
    const bool generated = include.target.ends_with(".pb.h");
    const std::string target = generated ? "proto" : first_folder(include.target);
    if (!layers().contains(target) || include.target.find('/') == std::string::npos) {
      findings.push_back(
          {file, include.line, "include-path",
           "\"" + include.target + "\": quotes are for the project's own headers, from the root"});
    } else if (target != own->first && !own->second.contains(target)) {
      findings.push_back(
          {file, include.line, "layer",
           own->first + "/ may not include \"" + include.target + "\" (docs/architecture.md, section 2)"});
    }
  }
}

void check_lengths(const std::string& file, const std::string& text, std::vector<Finding>& findings) {
  const std::ptrdiff_t lines = std::count(text.begin(), text.end(), '\n');
  const std::ptrdiff_t limit = file.starts_with("model/kernels/") ? kMaxKernelFileLines : kMaxFileLines;
  if (lines > limit)
    findings.push_back(
        {file, static_cast<int>(lines), "file-length",
         std::to_string(lines) + " lines, at most " + std::to_string(limit) + ": split it by subject"});
  const Functions functions = functions_of(text);
  if (!functions.balanced)
    findings.push_back(
        {file, 1, "braces", "braces do not match (across #if branches?), so functions cannot be measured"});
  for (const FunctionBody& body : functions.bodies)
    if (body.lines() > kMaxFunctionLines)
      findings.push_back({file, body.first_line, "function-length",
                          "`" + body.heading.substr(0, 80) + "` has " + std::to_string(body.lines()) +
                              " lines, at most " + std::to_string(kMaxFunctionLines)});
}

void check_words(const std::string& file, const std::string& text, std::vector<Finding>& findings) {
  // Put together from pieces, so that this file passes its own rules.
  static const std::regex kMachinePath(std::string("(^|[^[:alnum:]_.}])/(wor") + "k|ro" + "ot|fa" + "rm|ho" +
                                       "me|tm" + "p)/");
  static const std::regex kHost(std::string("py") + "pi\\.org|python" + "hosted\\.org|deb\\.deb" +
                                "ian\\.org");
  static const std::regex kUnfinished(std::string("\\b(TO") + "DO|FIX" + "ME|XX" + "X|HA" +
                                      "CK)\\b|\\b[Nn]ot imple" + "mented\\b|\\b[Ff]or n" + "ow\\b");
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    constexpr std::size_t kLongest = 4000;  // Beyond this it is data, and std::regex recurses by length.
    if (line.size() > kLongest) continue;
    std::smatch match;
    if (std::regex_search(line, match, kMachinePath))
      findings.push_back({file, number, "machine-path", "a path of one machine: " + match.str()});
    if (std::regex_search(line, match, kHost))
      findings.push_back({file, number, "machine-path", "a package host's name: " + match.str()});
    if (std::regex_search(line, match, kUnfinished))
      findings.push_back({file, number, "word", "`" + match.str() + "` marks unfinished work"});
  }
}

/// CMake splits a list at semicolons: a test of such a name becomes two that no program knows.
void check_test_names(const std::string& file, const std::string& text, std::vector<Finding>& findings) {
  static const std::string kCase = std::string("TEST_") + "CASE(";
  for (std::size_t at = text.find(kCase); at != std::string::npos; at = text.find(kCase, at + 1)) {
    bool quoted = false;
    for (std::size_t i = at + kCase.size(); i < text.size() && (quoted || text[i] != ')'); ++i) {
      if (text[i] == '"') quoted = !quoted;
      if (text[i] == '\\') ++i;
      if (!quoted || text[i] != ';') continue;
      const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(i), '\n');
      findings.push_back(
          {file, static_cast<int>(line), "test-name", "a semicolon in the name of a test case"});
      break;
    }
  }
}

bool skipped_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return (name.starts_with(".") && name != ".ci") || name.starts_with("build") || name == "runs";
}

}  // namespace

std::vector<Finding> lint_file(const std::string& file, const std::string& text) {
  std::vector<Finding> findings;
  if (is_cpp(file)) {
    check_includes(file, text, findings);
    check_lengths(file, text, findings);
    check_test_names(file, text, findings);
  }
  check_words(file, text, findings);
  return findings;
}

LintReport lint_tree(const fs::path& root) {
  LintReport report;
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator at(root), end; at != end; ++at) {
    if (at->is_directory() && skipped_folder(at->path())) at.disable_recursion_pending();
    const std::string name = at->path().lexically_relative(root).generic_string();
    if (at->is_regular_file() && (is_text(name) || name == ".ci/run")) files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& name : files) {
    std::ifstream in(root / name, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(in), {});
    const std::vector<Finding> found = lint_file(name.generic_string(), text);
    report.findings.insert(report.findings.end(), found.begin(), found.end());
    ++report.files;
  }
  return report;
}

}  // namespace ferro::lint
