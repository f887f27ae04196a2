#include "core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace ferro {
namespace {

constexpr double kTerminalSeconds = 0.1;

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// So that a long line does not wrap, which would leave its upper part behind at the next rewrite.
std::size_t terminal_columns(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return size.ws_col - 1U;
  return 79;
}

}  // namespace

Progress::Progress(std::string name, std::int64_t total, const Clock& clock, std::FILE* out,
                   double plain_seconds)
    : name_(std::move(name)),
      total_(total),
      clock_(clock),
      out_(out),
      plain_seconds_(plain_seconds),
      terminal_(::isatty(::fileno(out)) == 1),
      start_(clock.now()),
      last_print_(start_) {}

Progress::~Progress() {
  if (terminal_ && printed_ >= 0) {
    std::fputc('\n', out_);
    std::fflush(out_);
  }
}

void Progress::update(std::int64_t done, const std::string& facts) {
  const double since_print = std::chrono::duration<double>(clock_.now() - last_print_).count();
  const bool due = printed_ < 0 || since_print >= (terminal_ ? kTerminalSeconds : plain_seconds_);
  const bool last = done >= total_ && printed_ != done;
  if (due || last) print(done, facts);
}

void Progress::print(std::int64_t done, const std::string& facts) {
  last_print_ = clock_.now();
  printed_ = done;
  std::string line = fmt::format("{} {}/{}", name_, done, total_);
  if (!facts.empty()) line += " | " + facts;
  const double seconds = std::chrono::duration<double>(last_print_ - start_).count();
  if (done > 0 && seconds > 0.0) {
    const double rate = static_cast<double>(done) / seconds;
    line += fmt::format(" | {:.3g} step/s", rate);
    if (done < total_) line += " | ETA " + clock_text(static_cast<double>(total_ - done) / rate);
    if (done >= total_) line += " | " + clock_text(seconds);
  }
  if (terminal_) {
    line.resize(std::min(line.size(), terminal_columns(out_)));
    fmt::print(out_, "\r{}\x1b[K", line);
  } else {
    fmt::print(out_, "{}\n", line);
  }
  std::fflush(out_);
}

}  // namespace ferro
