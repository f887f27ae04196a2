#include "data/dataset_reader.h"

#include <optional>
#include <utility>

#include <fmt/format.h>
#include <simdjson.h>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "data/json_rows.h"
#include "data/utf8.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxDepth = 32;

struct Field {
  const char* name;
  std::string Row::*member;
};

const std::vector<Field>& text_fields(RowKind kind) {
  static const std::vector<Field> kSft = {
      {"image_path", &Row::image_path}, {"question", &Row::question}, {"response", &Row::response}};
  static const std::vector<Field> kRl = {
      {"image_path", &Row::image_path}, {"problem", &Row::question}, {"solution", &Row::solution}};
  static const std::vector<Field> kBenchmark = {
      {"image_path", &Row::image_path}, {"prompt", &Row::question}, {"true_label", &Row::solution}};
  switch (kind) {
    case RowKind::kSft:
      return kSft;
    case RowKind::kRl:
      return kRl;
    case RowKind::kBenchmark:
      break;
  }
  return kBenchmark;
}

struct Problem {
  std::string reason, detail;
};

std::optional<Problem> read_labels(simdjson::dom::object object, Row& row) {
  simdjson::dom::element value;
  if (object.at_key("candidate_labels").get(value) != simdjson::SUCCESS) {
    return Problem{"missing_field", "field `candidate_labels` is absent"};
  }
  simdjson::dom::array labels;
  if (value.get(labels) != simdjson::SUCCESS)
    return Problem{"wrong_type", "field `candidate_labels` is not an array"};
  for (const simdjson::dom::element label : labels) {
    std::string_view text;
    if (label.get(text) != simdjson::SUCCESS) {
      return Problem{"wrong_type", "field `candidate_labels` holds something else than strings"};
    }
    row.candidate_labels.emplace_back(text);
  }
  return std::nullopt;
}

std::optional<Problem> read_fields(simdjson::dom::element root, RowKind kind, Row& row) {
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return Problem{"wrong_type", "the row is not an object"};
  for (const Field& field : text_fields(kind)) {
    simdjson::dom::element value;
    if (object.at_key(field.name).get(value) != simdjson::SUCCESS) {
      return Problem{"missing_field", fmt::format("field `{}` is absent", field.name)};
    }
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) {
      return Problem{"wrong_type", fmt::format("field `{}` is not a string", field.name)};
    }
    row.*field.member = text;
  }
  return kind == RowKind::kBenchmark ? read_labels(object, row) : std::nullopt;
}

/// Without a text to learn, or a label to judge by, a row is of no use: an empty label would match anything.
std::optional<Problem> check_answer(RowKind kind, const Row& row) {
  const bool sft = kind == RowKind::kSft;
  if (!(sft ? row.response : row.solution).empty()) return std::nullopt;
  const char* field = sft ? "response" : (kind == RowKind::kRl ? "solution" : "true_label");
  return Problem{"empty_field", fmt::format("field `{}` is empty", field)};
}

class RowReader {
 public:
  RowReader(const fs::path& file, RowKind kind, const DatasetOptions& options)
      : file_(file.string()),
        kind_(kind),
        root_(options.image_root.empty() ? file.parent_path() : options.image_root),
        require_images_(options.require_images) {}

  /// Fills `row`, or says why the row cannot be used. Error{kData} when it is not JSON.
  std::optional<Problem> read(const JsonRowScanner::RowText& text, Row& row) {
    if (!is_valid_utf8(text.text)) return Problem{"not_utf8", "the row's bytes are not UTF-8"};
    if (text.depth > kMaxDepth) {
      return Problem{"too_deep",
                     fmt::format("nested {} levels deep, at most {} are read", text.depth, kMaxDepth)};
    }
    simdjson::dom::element root;
    const auto error = parser_.parse(text.text.data(), text.text.size()).get(root);
    if (error == simdjson::STRING_ERROR)
      return Problem{"bad_escape", "a string holds an escape that is no character"};
    if (error != simdjson::SUCCESS) {
      fail(ErrorCode::kData, "{}: row {} at byte {} is not JSON: {}", file_, row.id, text.offset,
           simdjson::error_message(error));
    }
    if (auto problem = read_fields(root, kind_, row)) return problem;
    if (auto problem = check_answer(kind_, row)) return problem;
    return resolve_image(row);
  }

 private:
  std::optional<Problem> resolve_image(Row& row) const {
    const std::string given = row.image_path;
    if (given.empty()) {
      return require_images_ ? std::optional(Problem{"empty_image_path", "field `image_path` is empty"})
                             : std::nullopt;
    }
    if (given.find('\0') != std::string::npos)
      return Problem{"image_missing", "field `image_path` holds a NUL"};
    row.image_path = (root_ / given.substr(std::min(given.find_first_not_of('/'), given.size()))).string();
    std::error_code ignored;
    if (require_images_ && !fs::is_regular_file(row.image_path, ignored)) {
      return Problem{"image_missing", fmt::format("no image file {}", row.image_path)};
    }
    return std::nullopt;
  }

  std::string file_;
  RowKind kind_;
  fs::path root_;
  bool require_images_;
  simdjson::dom::parser parser_;
};

std::string describe_counts(const Dataset& dataset) {
  std::string text;
  for (const auto& [reason, count] : dataset.set_aside_counts()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, reason);
  }
  return text;
}

}  // namespace

std::map<std::string, std::size_t> Dataset::set_aside_counts() const {
  std::map<std::string, std::size_t> counts;
  for (const SetAsideRow& row : set_aside) ++counts[row.reason];
  return counts;
}

Dataset read_dataset(const fs::path& path, RowKind kind, const DatasetOptions& options) {
  const std::string text = read_file(path);
  Dataset dataset;
  dataset.kind = kind;
  dataset.path = path.string();
  dataset.sha256 = sha256_of(text);
  RowReader reader(path, kind, options);
  JsonRowScanner scanner(text, dataset.path);
  for (std::int64_t id = 0; options.max_rows == 0 || dataset.rows.size() < options.max_rows; ++id) {
    const auto row_text = scanner.next();
    if (!row_text.has_value()) break;
    Row row;
    row.id = id;
    if (auto problem = reader.read(*row_text, row)) {
      dataset.set_aside.push_back({dataset.path, id, std::move(problem->reason), std::move(problem->detail)});
    } else {
      dataset.rows.push_back(std::move(row));
    }
  }
  if (dataset.rows.empty()) {
    if (dataset.set_aside.empty()) fail(ErrorCode::kData, "{}: no rows", dataset.path);
    const SetAsideRow& first = dataset.set_aside.front();
    fail(ErrorCode::kData, "{}: none of {} rows can be used ({}); row {}: {}", dataset.path,
         dataset.set_aside.size(), describe_counts(dataset), first.row, first.detail);
  }
  return dataset;
}

RowKind detect_row_kind(const fs::path& path) {
  const std::string text = read_file(path);
  JsonRowScanner scanner(text, path.string());
  auto row_text = scanner.next();
  if (!row_text.has_value()) fail(ErrorCode::kData, "{}: no rows", path.string());
  constexpr int kRowsLookedAt = 100;  // The first may be broken ones, which are set aside later.
  for (int i = 0; i < kRowsLookedAt && row_text.has_value(); ++i, row_text = scanner.next()) {
    for (const RowKind kind : {RowKind::kSft, RowKind::kRl, RowKind::kBenchmark}) {
      Row row;
      RowReader reader(path, kind, {.image_root = {}, .require_images = false, .max_rows = 0});
      const auto problem = reader.read(*row_text, row);
      if (!problem.has_value() || problem->reason == "empty_field") return kind;  // The fields are there.
    }
  }
  fail(ErrorCode::kData,
       "{}: none of the first rows is of a known kind; expected image_path with question and response, with "
       "problem "
       "and "
       "solution, or with true_label, prompt and candidate_labels",
       path.string());
}

}  // namespace ferro
