#include "launch/cli.h"

#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "launch/parse_options.h"

namespace ferro {

std::string not_negative(const std::string& text) {
  return text.starts_with('-') ? text + " is negative" : "";
}

int run_command_line(const std::vector<std::string>& arguments) {
  CLI::App app(
      "ferro trains a vision-language model to read faces: a cold start by SFT, then GRPO against verifiable "
      "rewards.",
      "ferro");
  app.set_version_flag("--version", "ferro " FERRO_VERSION);
  app.set_help_flag("-h,--help", "Print this help and exit.");
  app.require_subcommand(1);
  app.footer("Every command has its own --help. Exit codes: docs/exit-codes.md.");

  Action action;
  add_train_commands(app, action);
  add_eval_command(app, action);
  add_ask_commands(app, action);
  add_data_commands(app, action);
  add_model_commands(app, action);
  add_checkpoint_command(app, action);
  add_config_commands(app, action);
  add_plan_command(app, action);
  add_report_command(app, action);

  if (const std::optional<int> exit_code = parse_options(app, arguments)) return *exit_code;
  FERRO_CHECK(static_cast<bool>(action), "command `{}` has no action", fmt::join(arguments, " "));
  return action();
}

}  // namespace ferro
