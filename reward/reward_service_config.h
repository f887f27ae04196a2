#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config_visitor.h"
#include "reward/endpoint.h"
#include "reward/reward_function.h"

namespace ferro {

/// `ferro-reward -c file.yaml`.
struct RewardServiceConfig {
  std::string listen = "127.0.0.1:50061";
  std::vector<std::string> functions{"accuracy", "format"};
  std::int64_t max_concurrent_requests = 2;
  std::int64_t max_queued_requests = 256;
  std::int64_t max_queued_bytes = std::int64_t{256} << 20;
  std::int64_t max_message_bytes = std::int64_t{16} << 20;
  std::int64_t max_completions = 1024;
  double drain_seconds = 30;
  double handshake_seconds = 10;
  std::string tls_certificate_file, tls_key_file, tls_client_ca_file;
  std::string token_file;

  bool tls() const { return !tls_certificate_file.empty(); }

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("listen", listen,
            "host:port to answer on; port 0: a free one, which is printed. The default is reached from this "
            "machine only.");
    v.field("functions", functions, "Reward functions that judge every answer.");
    v.field("max_concurrent_requests", max_concurrent_requests, {.min = 1, .max = 1024},
            "Groups judged at the same time, one thread each.");
    v.field("max_queued_requests", max_queued_requests, {.min = 1, .max = 65536},
            "Groups that wait for a thread; one more is refused (RESOURCE_EXHAUSTED).");
    v.field("max_queued_bytes", max_queued_bytes, {.min = 1 << 20, .max = std::int64_t{1} << 40},
            "Bytes of all groups that wait or are judged; a group beyond it is refused.");
    v.field("max_message_bytes", max_message_bytes, {.min = 1024, .max = std::int64_t{1} << 30},
            "Largest request; a larger one is refused unread.");
    v.field("max_completions", max_completions, {.min = 1, .max = 65536}, "Most answers in one group.");
    v.field("drain_seconds", drain_seconds, {.min = 0.0, .max = 3600.0},
            "After SIGTERM or SIGINT: how long what has arrived may take to finish.");
    v.field("handshake_seconds", handshake_seconds, {.min = 0.1, .max = 600.0},
            "A connection that has not introduced itself by then is closed.");
    v.field("tls_certificate_file", tls_certificate_file,
            "PEM certificate (chain) of this server. Set together with tls_key_file and tls_client_ca_file: "
            "mutual TLS; empty: plain text.");
    v.field("tls_key_file", tls_key_file, "PEM private key of that certificate.");
    v.field("tls_client_ca_file", tls_client_ca_file,
            "PEM certificates of the authorities whose clients are let in.");
    v.field("token_file", token_file,
            "File whose content clients must send as bearer token; empty: none is asked for.");
  }

  template <class Report>
  void validate(Report&& report) const {
    const std::optional<Endpoint> endpoint = parse_endpoint(listen);
    if (!endpoint) report("listen", "must be host:port, such as 127.0.0.1:50061 or [::]:50061");
    if (functions.empty()) report("functions", "must name at least one function");
    for (const std::string& name : functions)
      if (const std::string why = why_not_a_reward_function(name); !why.empty()) report("functions", why);
    const bool any = !tls_certificate_file.empty() || !tls_key_file.empty() || !tls_client_ca_file.empty();
    const bool all = !tls_certificate_file.empty() && !tls_key_file.empty() && !tls_client_ca_file.empty();
    if (any && !all)
      report("tls_certificate_file",
             "mutual TLS needs tls_certificate_file, tls_key_file and tls_client_ca_file together");
    if (endpoint && !token_file.empty() && !all && !is_loopback(*endpoint))
      report("token_file", "a token on a network needs TLS: without it anybody on the way could read it");
    if (max_queued_bytes < max_message_bytes)
      report("max_queued_bytes", "must not be below max_message_bytes");
  }
};

}  // namespace ferro
