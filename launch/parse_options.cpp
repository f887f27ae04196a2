#include "launch/parse_options.h"

#include <algorithm>
#include <iostream>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/nearest_word.h"

namespace ferro {
namespace {

std::vector<std::string> subcommand_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(child->get_name());
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

struct WrongWord {
  const CLI::App* where = nullptr;  ///< The deepest command that was understood.
  std::string word;
  std::optional<std::string> nearest;
};

/// The first word that the commands do not know. `where` is the last command reached even when every word is
/// known.
WrongWord find_wrong_word(const CLI::App& root, const std::vector<std::string>& arguments) {
  WrongWord found{&root, "", std::nullopt};
  for (const std::string& word : arguments) {
    const std::vector<std::string> subcommands = subcommand_names(*found.where);
    if (std::find(subcommands.begin(), subcommands.end(), word) != subcommands.end()) {
      found.where = found.where->get_subcommand(word);
    } else if (word.starts_with("--")) {
      const std::string name = word.substr(0, word.find('='));
      const std::vector<std::string> options = option_names(*found.where);
      if (std::find(options.begin(), options.end(), name) != options.end()) continue;
      found.word = name;
      found.nearest = nearest_word(name, options);
      return found;
    } else if (!word.starts_with('-') && !subcommands.empty()) {
      found.word = word;
      found.nearest = nearest_word(word, subcommands);
      return found;
    }
  }
  return found;
}

std::string full_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : full_name(*parent) + " " + app.get_name();
}

int explain(const CLI::App& root, const CLI::ParseError& error, const std::vector<std::string>& arguments) {
  const WrongWord wrong = find_wrong_word(root, arguments);
  const std::string command = full_name(*wrong.where);
  if (!wrong.word.empty()) {
    const char* kind = wrong.word.starts_with("--") ? "option" : "command";
    std::cerr << fmt::format("{}: there is no {} `{}`", command, kind, wrong.word);
    std::cerr << (wrong.nearest ? fmt::format("; did you mean `{}`?\n", *wrong.nearest) : std::string(".\n"));
  } else if (const auto names = subcommand_names(*wrong.where); !names.empty()) {
    std::cerr << fmt::format("{}: name a command: {}\n", command, fmt::join(names, ", "));
  } else {
    std::cerr << fmt::format("{}: {}\n", command, error.what());
  }
  std::cerr << fmt::format("Run `{} --help` for its commands and options.\n", command);
  return static_cast<int>(ErrorCode::kUsage);
}

}  // namespace

std::optional<int> parse_options(CLI::App& app, const std::vector<std::string>& arguments) {
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(std::move(reversed));
    return std::nullopt;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    return explain(app, error, arguments);
  }
}

}  // namespace ferro
