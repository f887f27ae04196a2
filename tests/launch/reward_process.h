#pragma once

#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"

namespace ferro::testing {

/// build/bin/ferro-reward as a process of its own, killed at the latest when this goes.
class RewardProcess {
 public:
  /// Returns when it answers (`address` is set), or has ended.
  explicit RewardProcess(const std::vector<std::string>& arguments) {
    const std::string program = std::string(FERRO_BINARY_DIR) + "/bin/ferro-reward";
    std::vector<std::string> words{program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    const std::string errors = (folder_ / "err").string();
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    timespec begin{}, answered{};
    clock_gettime(CLOCK_MONOTONIC, &begin);
    child_ = fork();
    if (child_ == 0) {
      const int err_file = open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (err_file < 0 || dup2(ends[1], 1) < 0 || dup2(err_file, 2) < 0) _exit(126);
      execv(program.c_str(), pointers.data());
      _exit(127);
    }
    close(ends[1]);
    for (char c = 0; read(ends[0], &c, 1) == 1 && c != '\n';) first_line_ += c;
    close(ends[0]);
    clock_gettime(CLOCK_MONOTONIC, &answered);
    start_seconds_ = static_cast<double>(answered.tv_sec - begin.tv_sec) +
                     1e-9 * static_cast<double>(answered.tv_nsec - begin.tv_nsec);
  }
  RewardProcess(const RewardProcess&) = delete;
  RewardProcess& operator=(const RewardProcess&) = delete;
  ~RewardProcess() {
    if (child_ > 0) end(SIGKILL);
  }

  const std::string& first_line() const { return first_line_; }
  /// What stands behind the last blank of that line.
  std::string address() const { return first_line_.substr(first_line_.rfind(' ') + 1); }
  double start_seconds() const { return start_seconds_; }
  void send(int signal) const { kill(child_, signal); }
  /// Waits for its end. The exit code, or 128 + the signal's number.
  int wait() {
    int status = 0;
    waitpid(std::exchange(child_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int end(int signal) {
    send(signal);
    return wait();
  }
  std::string errors() const { return read_file(folder_ / "err"); }

 private:
  ScratchFolder folder_;
  std::string first_line_;
  double start_seconds_ = 0;
  pid_t child_ = -1;
};

}  // namespace ferro::testing
