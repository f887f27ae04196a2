#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ferro {

/// What the named subcommand does; set while parsing, run afterwards. Returns the exit code.
using Action = std::function<int()>;

/// A check for options of unsigned numbers, which would take "-1" for a huge one.
std::string not_negative(const std::string& text);

/// The whole program: parses `arguments` (without the program's name) and runs what they name. Help and
/// version print on standard output and return 0. A wrong command line prints what is wrong, the nearest
/// known word and where to find help on standard error and returns 64. What a command throws passes through.
int run_command_line(const std::vector<std::string>& arguments);

// One function per group of subcommands; each adds them to `app` and lets their callbacks set `action`.
void add_train_commands(CLI::App& app, Action& action);
void add_eval_command(CLI::App& app, Action& action);
void add_ask_commands(CLI::App& app, Action& action);  ///< generate, score
void add_data_commands(CLI::App& app, Action& action);
void add_model_commands(CLI::App& app, Action& action);
void add_checkpoint_command(CLI::App& app, Action& action);
void add_config_commands(CLI::App& app, Action& action);
void add_plan_command(CLI::App& app, Action& action);
void add_report_command(CLI::App& app, Action& action);

}  // namespace ferro
