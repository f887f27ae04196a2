#include "launch/stop_signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/error.h"

namespace ferro {

StopSignals::StopSignals(const char* announcement) : announcement_(announcement) {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  signal_descriptor_ = signalfd(-1, &signals_, SFD_CLOEXEC);
  wake_descriptor_ = eventfd(0, EFD_CLOEXEC);
  if (signal_descriptor_ < 0 || wake_descriptor_ < 0)
    fail(ErrorCode::kInternal, "cannot watch for SIGINT and SIGTERM: {}", std::strerror(errno));
  watcher_ = std::jthread([this](const std::stop_token& ending) { watch(ending); });
}

StopSignals::~StopSignals() {
  watcher_.request_stop();
  const std::uint64_t one = 1;
  if (write(wake_descriptor_, &one, sizeof one) != sizeof one)
    std::fputs("ferro: cannot wake the signal watcher\n", stderr);
  watcher_.join();
  close(signal_descriptor_);
  close(wake_descriptor_);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void StopSignals::watch(const std::stop_token& ending) noexcept {
  while (!ending.stop_requested()) {
    std::array<pollfd, 2> waiting{{{signal_descriptor_, POLLIN, 0}, {wake_descriptor_, POLLIN, 0}}};
    if (poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) return;
    if ((waiting[0].revents & POLLIN) == 0) continue;
    signalfd_siginfo received{};
    if (read(signal_descriptor_, &received, sizeof received) != sizeof received) continue;
    if (!source_.request_stop()) _exit(128 + static_cast<int>(received.ssi_signo));
    std::fprintf(stderr, "%s\n", announcement_);
  }
}

}  // namespace ferro
