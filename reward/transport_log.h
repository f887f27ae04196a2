#pragma once

#include <cstdint>
#include <memory>

#include <spdlog/logger.h>

namespace ferro {

/// Sends gRPC's own error messages to `log` from then on, at most one a second, and counts the handshakes
/// that failed. gRPC has one such outlet a process, and calls it from threads that live as long as the
/// process: for programs, called once, before the first server or channel. `log` is kept to the end.
void route_transport_log(std::shared_ptr<spdlog::logger> log);

/// TLS connections that were not accepted since route_transport_log(): no certificate, a wrong one, no TLS at
/// all. gRPC does not tell from whom.
std::uint64_t refused_handshakes();

}  // namespace ferro
