#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"

namespace ferro::testing {

struct ProgramRun {
  int exit_code = -1;  ///< 128 + number for a signal.
  std::string out, err;
  double seconds = 0;
};

/// Runs build/bin/ferro and waits. `while_running` is called once with the process id after the start.
inline ProgramRun run_ferro(const std::vector<std::string>& arguments,
                            const std::function<void(pid_t)>& while_running = {}) {
  const ScratchFolder scratch;
  const std::string program = std::string(FERRO_BINARY_DIR) + "/bin/ferro";
  const std::string out = (scratch / "out").string(), err = (scratch / "err").string();
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  timespec begin{}, end{};
  clock_gettime(CLOCK_MONOTONIC, &begin);
  const pid_t child = fork();
  if (child == 0) {
    const int out_file = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_file = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out_file < 0 || err_file < 0 || dup2(out_file, 1) < 0 || dup2(err_file, 2) < 0) _exit(126);
    execv(program.c_str(), pointers.data());
    _exit(127);
  }
  if (while_running) while_running(child);
  int status = 0;
  waitpid(child, &status, 0);
  clock_gettime(CLOCK_MONOTONIC, &end);

  ProgramRun run;
  run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  run.out = read_file(out);
  run.err = read_file(err);
  run.seconds = static_cast<double>(end.tv_sec - begin.tv_sec) +
                1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
  return run;
}

/// The same for what must succeed.
inline ProgramRun succeed(const std::vector<std::string>& arguments) {
  ProgramRun run = run_ferro(arguments);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  return run;
}

}  // namespace ferro::testing
