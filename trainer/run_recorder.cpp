#include "trainer/run_recorder.h"

#include <utility>

#include "core/fail_point.h"
#include "core/log.h"

namespace ferro {

std::shared_ptr<spdlog::logger> make_run_logger(const std::string& job, const RunFolder& run, int rank) {
  if (run.writes()) return make_logger(job, "info", run.path() / "log.txt");
  return make_logger(fmt::format("{} rank {}", job, rank), "error");
}

RunRecorder::RunRecorder(const std::string& job, std::int64_t total_steps, std::int64_t logging_steps,
                         RunFolder& run, std::shared_ptr<spdlog::logger> log, const Clock& clock)
    : total_steps_(total_steps),
      logging_steps_(logging_steps),
      run_(run),
      log_(std::move(log)),
      clock_(clock),
      progress_(job, total_steps, clock),
      step_start_(clock.now()) {}

void RunRecorder::set_aside(const SetAsideRow& row) {
  ++set_aside_counts_[row.reason];
  // Groups without signal are dropped by design, and many.
  const auto level = row.reason == "no_signal" ? spdlog::level::debug : spdlog::level::warn;
  log_->log(level, "set aside ({}): {} row {}: {}", row.reason, row.file, row.row, row.detail);
  run_.append("set_aside.jsonl",
              {{"file", row.file}, {"row", row.row}, {"reason", row.reason}, {"detail", row.detail}});
}

void RunRecorder::set_aside(const std::vector<SetAsideRow>& rows) {
  for (const SetAsideRow& row : rows) set_aside(row);
}

void RunRecorder::step_done(std::int64_t step, const std::string& facts) {
  fail_point("train.step");
  const Clock::TimePoint now = clock_.now();
  timing.add("step_time", std::chrono::duration<double>(now - step_start_).count());
  step_start_ = now;
  if (run_.writes()) progress_.update(step, facts);
  if (step % logging_steps_ != 0 && step != total_steps_) return;
  write_line(step);
}

nlohmann::json RunRecorder::state() const {
  return {{"metrics", metrics.state()}, {"set_aside", set_aside_counts_}};
}

void RunRecorder::restore(const nlohmann::json& state) {
  metrics.restore(state.at("metrics"));
  set_aside_counts_ = state.at("set_aside").get<std::map<std::string, std::int64_t>>();
}

void RunRecorder::stopped_after(std::int64_t step) {
  if (step % logging_steps_ != 0) write_line(step);
}

void RunRecorder::write_line(std::int64_t step) {
  std::map<std::string, double> line = metrics.take();
  for (const auto& [reason, count] : set_aside_counts_)
    line["data/set_aside/" + reason] = static_cast<double>(count);
  run_.log_metrics(step, line);
  run_.log_timing(step, timing.take());
}

void RunRecorder::log_at(std::int64_t step, const std::map<std::string, double>& values) {
  if (!values.empty()) run_.log_metrics(step, values);
  step_start_ = clock_.now();
}

}  // namespace ferro
