#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/config.h"
#include "launch/cli.h"
#include "launch/config_docs_page.h"
#include "launch/config_kinds.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {
namespace {

struct ConfigOptions {
  std::string kind, file;
  std::vector<std::string> overrides;
};

std::string resolved(ConfigKind kind, const ConfigOptions& options) {
  if (kind == ConfigKind::kGrpo) return dump_yaml(load_config<GrpoConfig>(options.file, options.overrides));
  return dump_yaml(load_config<SftConfig>(options.file, options.overrides));
}

ConfigKind kind_of(const ConfigOptions& options) {
  return options.kind.empty() ? detect_config_kind(options.file) : config_kind_of(options.kind);
}

int check(const ConfigOptions& options) {
  const ConfigKind kind = kind_of(options);
  resolved(kind, options);
  fmt::print("{}: a valid configuration of `ferro train {}`\n", options.file, name_of(kind));
  return 0;
}

int show(const ConfigOptions& options) {
  fmt::print("{}", resolved(kind_of(options), options));
  return 0;
}

void add_options(CLI::App& command, ConfigOptions& options) {
  command.add_option("file", options.file, "YAML file.")->required();
  command.add_option("--as", options.kind, "Kind of file; else the one its keys fit.")
      ->check(CLI::IsMember({"sft", "grpo"}));
  command.add_option("--set", options.overrides, "Set one key over the file. Repeatable.")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
}

}  // namespace

void add_config_commands(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("config", "Explain, check and resolve configuration files.");
  group->require_subcommand(1);

  CLI::App* docs =
      group->add_subcommand("docs", "Print docs/config.md: every key, its type, default, range and meaning.");
  docs->callback([&action] {
    action = [] {
      fmt::print("{}", config_docs_page());
      return 0;
    };
  });

  auto options = std::make_shared<ConfigOptions>();
  CLI::App* check_command =
      group->add_subcommand("check", "Read a file as training would, and say whether it is right.");
  add_options(*check_command, *options);
  check_command->callback([&action, options] { action = [options] { return check(*options); }; });

  CLI::App* show_command = group->add_subcommand(
      "show", "Print the resolved configuration: every key with the value a run would use.");
  add_options(*show_command, *options);
  show_command->callback([&action, options] { action = [options] { return show(*options); }; });
}

}  // namespace ferro
