#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/dataset_reader.h"
#include "launch/asking_options.h"
#include "launch/cli.h"
#include "launch/config_kinds.h"
#include "launch/eval_report.h"
#include "launch/parse_options.h"
#include "launch/plugins.h"
#include "launch/predictions.h"

namespace ferro {
namespace {

struct EvalOptions {
  AskingOptions asking;
  std::string data, image_root, dataset, out, json, compare;
  std::int64_t max_rows = 0, max_new_tokens = 0, batch_rows = 128;
};

/// The configuration's evaluation settings under the command line's.
EvalOptions resolved(EvalOptions options) {
  if (!options.asking.config.empty()) {
    const AskedAsTrained trained = asked_as_trained(options.asking.config);
    if (options.data.empty()) options.data = trained.data.eval_file;
    if (options.image_root.empty()) options.image_root = trained.data.image_root;
    if (options.max_rows == 0) options.max_rows = trained.data.max_eval_rows;
    if (options.max_new_tokens == 0) options.max_new_tokens = trained.max_new_tokens;
  }
  if (options.max_new_tokens == 0) options.max_new_tokens = 256;
  if (options.data.empty())
    fail(ErrorCode::kUsage, "no rows to evaluate on: give --data, or a --config with data.eval_file");
  return options;
}

void write_json_report(const EvalOptions& options, const Dataset& dataset, const EvalOutcome& outcome,
                       const PairedInterval* against) {
  nlohmann::ordered_json json{
      {"model", options.asking.model}, {"data", dataset.path}, {"data_sha256", dataset.sha256}};
  json.update(report_json(outcome));
  if (against != nullptr)
    json["compared"] = {{"predictions", options.compare},
                        {"rows", against->count},
                        {"accuracy_other", against->accuracy_a},
                        {"difference", against->difference},
                        {"low", against->low},
                        {"high", against->high}};
  write_file_atomically(options.json, json.dump(2) + "\n");
}

/// Before the evaluation takes its time: a file can be written there.
void make_room_for(const char* option, const std::string& name) {
  if (name.empty()) return;
  const std::filesystem::path path = name;
  if (std::filesystem::is_directory(path))
    fail(ErrorCode::kUsage, "{} {} is a folder: name a file", option, name);
  if (path.has_parent_path()) create_folders(path.parent_path());
}

int evaluate(const EvalOptions& given) {
  const EvalOptions options = resolved(given);
  make_room_for("--out", options.out);
  make_room_for("--json", options.json);
  const Dataset dataset = read_dataset(
      options.data, detect_row_kind(options.data),
      {.image_root = options.image_root, .max_rows = static_cast<std::size_t>(options.max_rows)});
  std::vector<Prediction> other;
  if (!options.compare.empty()) other = read_predictions(options.compare);

  EvalOutcome outcome = runtime().evaluate({.asking = resolve_asking(options.asking, true),
                                            .rows = dataset.rows,
                                            .max_new_tokens = options.max_new_tokens,
                                            .batch_rows = options.batch_rows,
                                            .dataset = options.dataset});
  outcome.set_aside += static_cast<std::int64_t>(dataset.set_aside.size());
  fmt::print("{}", format_report(outcome));

  PairedInterval interval;
  if (!options.compare.empty()) {
    interval = compare_predictions(other, outcome.predictions);
    fmt::print("\n{}\n", format_interval(interval, options.compare, "this model"));
  }
  if (!options.out.empty()) write_predictions(options.out, outcome.predictions);
  if (!options.json.empty())
    write_json_report(options, dataset, outcome, options.compare.empty() ? nullptr : &interval);
  return 0;
}

}  // namespace

void add_eval_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand(
      "eval", "Greedy answers on labelled rows: accuracy, macro figures, confusion matrix.");
  add_asking_options(*command, options->asking);
  command->add_option("-d,--data", options->data,
                      "Rows: JSON or JSON lines (docs/data.md); else the configuration's data.eval_file.");
  command->add_option("--image-root", options->image_root,
                      "Folder that image paths are relative to; else the data file's folder.");
  command
      ->add_option("--dataset", options->dataset, "Whose synonyms to accept; else those that all four share.")
      ->check(CLI::IsMember({"affectnet", "ferplus", "rafdb", "sfew", "sfew_2.0"}));
  command->add_option("--max-rows", options->max_rows, "Only the first rows; 0: all.")
      ->check(CLI::Range(std::int64_t{0}, kMaxOptionCount))
      ->capture_default_str();
  command
      ->add_option("-n,--max-new-tokens", options->max_new_tokens,
                   "Longest answer; else the configuration's, else 256.")
      ->check(CLI::Range(std::int64_t{1}, kMaxAnswerTokens));
  command->add_option("--batch-rows", options->batch_rows, "Rows answered together.")
      ->check(CLI::Range(std::int64_t{1}, kMaxOptionCount))
      ->capture_default_str();
  command->add_option("-o,--out", options->out, "Write each row's answer here (JSON lines).");
  command->add_option("--json", options->json, "Write the figures here (JSON).");
  command->add_option("--compare", options->compare,
                      "Another model's --out file: prints the paired difference with its interval.");
  command->callback([&action, options] { action = [options] { return evaluate(*options); }; });
}

}  // namespace ferro
