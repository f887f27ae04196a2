#include <string>
#include <vector>

#include "launch/cli.h"
#include "launch/run_main.h"

int main(int argc, char** argv) {
  return ferro::run_main(
      [&] { return ferro::run_command_line(std::vector<std::string>(argv + 1, argv + argc)); });
}
