#pragma once

#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ferro {

/// Parses `arguments` (without the program's name) into `app`. Empty: go on. Help and version print on
/// standard output: 0. A wrong command line prints what is wrong, the nearest known word and where to find
/// help on standard error: 64.
std::optional<int> parse_options(CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace ferro
