#pragma once

#include <algorithm>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>

// What the benchmark programs share: a best time, the processor's name and the load.

namespace ferro::bench {

/// Which clock: with one thread the thread's own time, which other programs on the machine disturb less; else
/// the wall's.
inline double seconds_now(bool own_thread) {
  timespec now{};
  clock_gettime(own_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Seconds of the fastest of several calls, over about `budget` seconds; the first call warms up.
inline double best_seconds(bool own_thread, const std::function<void()>& work, double budget = 0.12) {
  work();
  double best = 1e30, spent = 0;
  while (spent < budget) {
    const double start = seconds_now(own_thread);
    work();
    const double seconds = seconds_now(own_thread) - start;
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

inline std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

inline std::string load_average() {
  std::ifstream in("/proc/loadavg");
  std::string one;
  in >> one;
  return one;
}

}  // namespace ferro::bench
