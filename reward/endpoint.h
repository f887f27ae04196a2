#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ferro {

/// A place on a network: a name or an address, and a port. An IPv6 address stands in brackets in text.
struct Endpoint {
  std::string host;  ///< Without brackets.
  std::uint16_t port = 0;

  std::string text() const;  ///< `host:port`, `[host]:port` for IPv6.
};

/// `host:port`; empty when it is not that.
std::optional<Endpoint> parse_endpoint(std::string_view text);

/// The host never leaves this machine: localhost, 127.0.0.0/8, ::1.
bool is_loopback(const Endpoint& endpoint);

}  // namespace ferro
