#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/atomic_file.h"
#include "launch/cli.h"
#include "launch/stage_report.h"

namespace ferro {

void add_report_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<StageReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report", "One table of base, cold start and GRPO from what `ferro eval --json --out` wrote of each.");
  command->add_option("--base", options->base, "Prefix of the base's files: PREFIX.json and PREFIX.jsonl.")
      ->required();
  command->add_option("--sft", options->sft, "Prefix of the cold start's files.")->required();
  command->add_option("--grpo", options->grpo, "Prefix of the files after GRPO.")->required();
  command->add_option("--seconds", options->seconds, "Time of a stage. Repeatable.")
      ->type_name("STAGE=SECONDS")
      ->allow_extra_args(false);
  command->add_option("--faces", options->faces, "Training faces, for the summary.");
  command->add_option("--seed", options->seed, "Seed, for the summary.");
  command->add_option("--examples", options->examples, "Answers of the last stage to show.")
      ->capture_default_str();
  command->add_option("-o,--out", options->out, "Write summary.json here.");
  command->callback([&action, options] {
    action = [options] {
      const StageReport report = stage_report(*options);
      fmt::print("{}", report.text);
      if (!options->out.empty()) write_file_atomically(options->out, report.summary.dump(2) + "\n");
      return 0;
    };
  });
}

}  // namespace ferro
