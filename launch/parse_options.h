#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace ferro {

/// The largest count that an option takes: what is larger is a slip.
inline constexpr std::int64_t kMaxOptionCount = 1'000'000'000;

/// Parses `arguments` (without the program's name) into `app`. Empty: go on. Help and version print on
/// standard output: 0. A wrong command line prints what is wrong, the nearest known word and where to find
/// help on standard error: 64.
std::optional<int> parse_options(CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace ferro
