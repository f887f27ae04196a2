#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "data/dataset_reader.h"
#include "data/face_labels.h"
#include "launch/cli.h"
#include "launch/plugins.h"

namespace ferro {
namespace {

constexpr std::int64_t kMaxIdentity = 1'000'000'000;

struct FacesOptions {
  FaceDatasetOptions faces;
  std::string out, reasoning = "compact";
};

void add_faces(CLI::App& group, Action& action) {
  auto options = std::make_shared<FacesOptions>();
  FaceDatasetOptions& faces = options->faces;
  CLI::App* command = group.add_subcommand("faces",
                                           "Draw labelled faces: images/, sft.json (reasoning), "
                                           "sft_labels.json (labels alone), rl.json (problems).");
  command->add_option("-o,--out", options->out, "Folder to write.")->required();
  command->add_option("--seed", faces.seed, "The same seed and options draw the same bytes.")
      ->check(not_negative)
      ->capture_default_str();
  command->add_option("--count", faces.count, "Faces; the eight labels are balanced.")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{999'999}))
      ->capture_default_str();
  command->add_option("--size", faces.size, "Side in pixels.")
      ->check(CLI::Range(16, 1024))
      ->capture_default_str();
  command->add_option("--first-identity", faces.first_identity, "Number of the first person.")
      ->check(CLI::Range(std::int64_t{0}, kMaxIdentity))
      ->capture_default_str();
  command->add_option("--identities", faces.identities, "People; sets whose ranges are disjoint share none.")
      ->check(CLI::Range(std::int64_t{1}, kMaxIdentity))
      ->capture_default_str();
  command->add_option("--difficulty", faces.difficulty, "0: clear and frontal; 1: faint, turned, noisy.")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_flag("--colour", faces.colour, "Colour instead of grey.");
  command->add_flag("--overwrite", faces.overwrite, "Replace a set that the folder holds.");
  command->add_option("--question", faces.question, "Question of every row.")->capture_default_str();
  command
      ->add_option("--reasoning", options->reasoning,
                   "full: sentences; compact: two words an action unit (tiny models).")
      ->check(CLI::IsMember({"full", "compact"}))
      ->capture_default_str();
  command->callback([&action, options] {
    action = [options] {
      options->faces.reasoning =
          options->reasoning == "full" ? ReasoningStyle::kFull : ReasoningStyle::kCompact;
      pictures().write_faces(options->faces, options->out);
      fmt::print("{}: {} faces of {} people\n", options->out, options->faces.count,
                 options->faces.identities);
      return 0;
    };
  });
}

struct FromLabelsOptions {
  FaceLabelsOptions labels;
  std::string style = "reasoning", reasoning = "full";
  std::size_t show = 20;
};

void print_set_aside(const std::vector<SetAsideRow>& rows, std::size_t show) {
  for (std::size_t i = 0; i < std::min(show, rows.size()); ++i)
    fmt::print("  {} row {}: {}: {}\n", rows[i].file, rows[i].row, rows[i].reason, rows[i].detail);
  if (rows.size() > show) fmt::print("  ... (--show {} prints all)\n", rows.size());
}

int from_labels(const FromLabelsOptions& options) {
  FaceLabelsOptions labels = options.labels;
  labels.answer = options.style == "label" ? AnswerStyle::kLabel : AnswerStyle::kReasoning;
  labels.reasoning = options.reasoning == "compact" ? ReasoningStyle::kCompact : ReasoningStyle::kFull;
  const FaceLabelsReport report = write_face_labels(labels);
  for (const auto& [name, split] : report.splits) {
    fmt::print("{}: {} faces, {} rows\n", name, split.faces, split.rows);
    for (const auto& [label, count] : split.rows_of_label) fmt::print("  {:<20}{:>9}\n", label, count);
  }
  fmt::print("set aside {}\n", report.set_aside.size());
  print_set_aside(report.set_aside, options.show);
  fmt::print("wrote sft_<split>.json and rl_<split>.json into {}; image_root: {}\n", labels.output.string(),
             report.image_root.string());
  return 0;
}

void add_from_labels(CLI::App& group, Action& action) {
  auto options = std::make_shared<FromLabelsOptions>();
  FaceLabelsOptions& labels = options->labels;
  CLI::App* command = group.add_subcommand(
      "from-labels", "Labelled faces of your own (a CSV, or class folders) as rows to train on, per split.");
  command
      ->add_option("-f,--faces", labels.input,
                   "CSV with path, label, split; a folder with labels.csv; or class folders.")
      ->required();
  command->add_option("-o,--out", labels.output, "Folder for sft_<split>.json and rl_<split>.json.")
      ->required();
  command->add_option("--image-root", labels.image_root,
                      "What a CSV's paths are relative to; else the CSV's folder.");
  command
      ->add_option(
          "--style", options->style,
          "reasoning: sentences that name the label's action units, then the label; label: the label alone.")
      ->check(CLI::IsMember({"reasoning", "label"}))
      ->capture_default_str();
  command
      ->add_option("--reasoning", options->reasoning,
                   "full: sentences; compact: two words an action unit (tiny models).")
      ->check(CLI::IsMember({"full", "compact"}))
      ->capture_default_str();
  command->add_option("--question", labels.question, "Question of every row.")->capture_default_str();
  command->add_option("--default-split", labels.default_split, "Split of faces whose source names none.")
      ->capture_default_str();
  command
      ->add_option("--copies", labels.copies,
                   "N: each training face N times, its label drawn from the votes_* columns; 0: the label.")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_option("--seed", labels.seed, "Key of drawn labels and wording.")
      ->check(not_negative)
      ->capture_default_str();
  command->add_option("--show", options->show, "Faces set aside to name.")->capture_default_str();
  command->callback([&action, options] { action = [options] { return from_labels(*options); }; });
}

struct CheckOptions {
  std::string file, image_root, kind;
  bool images = false, strict = false;
  std::size_t show = 20;
};

const char* name_of(RowKind kind) {
  switch (kind) {
    case RowKind::kSft:
      return "sft (image_path, question, response)";
    case RowKind::kRl:
      return "rl (image_path, problem, solution)";
    case RowKind::kBenchmark:
      return "benchmark (image_path, true_label, prompt, candidate_labels)";
  }
  return "";
}

RowKind row_kind(const CheckOptions& options) {
  if (options.kind.empty()) return detect_row_kind(options.file);
  if (options.kind == "sft") return RowKind::kSft;
  return options.kind == "rl" ? RowKind::kRl : RowKind::kBenchmark;
}

/// Moves rows whose image does not decode to the rows set aside, as training does.
void decode_images(Dataset& dataset) {
  const auto loader = pictures().make_loader({}, {}, 0);
  std::vector<Row> readable;
  for (Row& row : dataset.rows) {
    try {
      if (!row.image_path.empty()) loader->load(row.image_path, nullptr);
      readable.push_back(std::move(row));
    } catch (const Error& error) {
      dataset.set_aside.push_back({dataset.path, row.id, "image_unreadable", error.what()});
    }
  }
  dataset.rows = std::move(readable);
  std::stable_sort(dataset.set_aside.begin(), dataset.set_aside.end(),
                   [](const SetAsideRow& a, const SetAsideRow& b) { return a.row < b.row; });
}

void print_solutions(const Dataset& dataset) {
  if (dataset.kind == RowKind::kSft) return;
  std::map<std::string, std::size_t> counts;
  for (const Row& row : dataset.rows) ++counts[row.solution];
  constexpr std::size_t kMostLabels = 32;
  if (counts.size() > kMostLabels) {
    fmt::print("  solutions: {} different\n", counts.size());
    return;
  }
  for (const auto& [label, count] : counts) fmt::print("  {:<20}{:>9}\n", label, count);
}

int check(const CheckOptions& options) {
  Dataset dataset = read_dataset(options.file, row_kind(options), {.image_root = options.image_root});
  if (options.images) decode_images(dataset);
  fmt::print("{}: rows of kind {}\n  sha256 {}\n  usable {:>9}\n  set aside {:>6}\n", options.file,
             name_of(dataset.kind), dataset.sha256, dataset.rows.size(), dataset.set_aside.size());
  for (const auto& [reason, count] : dataset.set_aside_counts())
    fmt::print("    {:<20}{:>6}\n", reason, count);
  print_set_aside(dataset.set_aside, options.show);
  print_solutions(dataset);
  if (dataset.rows.empty()) fail(ErrorCode::kData, "{}: no usable row", options.file);
  if (options.strict && !dataset.set_aside.empty())
    fail(ErrorCode::kData, "{}: {} rows are set aside", options.file, dataset.set_aside.size());
  return 0;
}

void add_check(CLI::App& group, Action& action) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = group.add_subcommand(
      "check", "Read a data file as training would: counts, and each row set aside with the reason.");
  command->add_option("file", options->file, "JSON array or JSON lines.")->required();
  command->add_option("--image-root", options->image_root,
                      "Folder that image paths are relative to; else the file's folder.");
  command->add_option("--kind", options->kind, "Row kind; else the one its first row fits.")
      ->check(CLI::IsMember({"sft", "rl", "benchmark"}));
  command->add_flag("--images", options->images, "Also decode every image.");
  command->add_flag("--strict", options->strict, "End with exit code 65 when any row is set aside.");
  command->add_option("--show", options->show, "Rows to name.")->capture_default_str();
  command->callback([&action, options] { action = [options] { return check(*options); }; });
}

}  // namespace

void add_data_commands(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("data", "Make and check data sets.");
  group->require_subcommand(1);
  add_faces(*group, action);
  add_from_labels(*group, action);
  add_check(*group, action);
}

}  // namespace ferro
