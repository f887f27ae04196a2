#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <spdlog/logger.h>

#include "core/progress.h"
#include "data/dataset_reader.h"
#include "trainer/metric_sums.h"
#include "trainer/run_folder.h"

namespace ferro {

/// Into the run folder's log.txt and on the terminal; of a rank that does not write the folder, errors only.
std::shared_ptr<spdlog::logger> make_run_logger(const std::string& job, const RunFolder& run, int rank);

/// What a training loop tells the world: lines of metrics.jsonl and timing.jsonl, the terminal's progress,
/// the rows that were set aside. One thread.
class RunRecorder {
 public:
  RunRecorder(const std::string& job, std::int64_t total_steps, std::int64_t logging_steps, RunFolder& run,
              std::shared_ptr<spdlog::logger> log, const Clock& clock);

  MetricWindow metrics;  ///< Repeat exactly with the same seed.
  MetricWindow timing;   ///< Do not.

  /// Names the row in the log and in set_aside.jsonl, and counts it in data/set_aside/<reason>.
  void set_aside(const SetAsideRow& row);
  void set_aside(const std::vector<SetAsideRow>& rows);
  const std::map<std::string, std::int64_t>& set_aside_counts() const { return set_aside_counts_; }
  /// Ends step `step` (from 1); every `logging_steps` and at the last one, the means since the last line are
  /// written.
  void step_done(std::int64_t step, const std::string& facts);
  /// What a resumed run goes on from: the unfinished window of metrics, the counts of rows set aside.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);
  /// The run ends early after `step`: writes what step_done() would have kept for a later line.
  void stopped_after(std::int64_t step);
  /// Metrics that belong to one step (an evaluation), as a line of their own.
  void log_at(std::int64_t step, const std::map<std::string, double>& values);

 private:
  void write_line(std::int64_t step);
  std::int64_t total_steps_, logging_steps_;
  RunFolder& run_;
  std::shared_ptr<spdlog::logger> log_;
  const Clock& clock_;
  Progress progress_;
  Clock::TimePoint step_start_;
  std::map<std::string, std::int64_t> set_aside_counts_;
};

/// Adds the seconds since it was made to `window` as time/<phase>, once, when it goes.
class PhaseTimer {
 public:
  PhaseTimer(MetricWindow& window, std::string phase, const Clock& clock)
      : window_(window), phase_(std::move(phase)), watch_(clock) {}
  ~PhaseTimer() { window_.add("time/" + phase_, watch_.seconds()); }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;
  double seconds() const { return watch_.seconds(); }

 private:
  MetricWindow& window_;
  std::string phase_;
  Stopwatch watch_;
};

}  // namespace ferro
