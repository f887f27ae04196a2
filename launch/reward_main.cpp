#include <string>
#include <vector>

#include "launch/reward_program.h"
#include "launch/run_main.h"

int main(int argc, char** argv) {
  return ferro::run_main(
      [&] { return ferro::run_reward_service(std::vector<std::string>(argv + 1, argv + argc)); });
}
