#pragma once

#include <string>
#include <vector>

namespace ferro {

/// The program `ferro-reward`: parses `arguments` (without the program's name), answers until SIGTERM or
/// SIGINT, drains and returns 0. A wrong command line: 64. What a wrong configuration or address throws
/// passes through.
int run_reward_service(const std::vector<std::string>& arguments);

}  // namespace ferro
