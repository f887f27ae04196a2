#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config_visitor.h"
#include "reward/endpoint.h"

namespace ferro {

/// Section `reward_service` of a training configuration: where answers are judged.
struct RewardClientConfig {
  std::vector<std::string> endpoints;
  double deadline_seconds = 60;
  double wait_seconds = 600;
  std::string tls_ca_file, tls_certificate_file, tls_key_file;
  std::string token_file;

  bool tls() const { return !tls_ca_file.empty(); }

  template <class Visitor>
  void visit(Visitor& v) {
    v.field(
        "endpoints", endpoints,
        "host:port of each `ferro-reward`, asked in turn; one that is down is passed over. Empty: answers "
        "are judged in this process.");
    v.field("deadline_seconds", deadline_seconds, {.min = 0.01, .max = 86400.0},
            "Longest time of one call; a group that takes longer is unjudged, reason deadline.");
    v.field("wait_seconds", wait_seconds, {.min = 0.0, .max = 86400.0},
            "How long a group waits while no endpoint can be reached; then it is unjudged, reason "
            "service_unavailable.");
    v.field("tls_ca_file", tls_ca_file,
            "PEM certificates of the authorities that the service's certificate must come from. Set together "
            "with tls_certificate_file and tls_key_file: mutual TLS; empty: plain text.");
    v.field("tls_certificate_file", tls_certificate_file, "PEM certificate (chain) of this client.");
    v.field("tls_key_file", tls_key_file, "PEM private key of that certificate.");
    v.field("token_file", token_file, "File with the bearer token that the service asks for; empty: none.");
  }

  template <class Report>
  void validate(Report&& report) const {
    const bool any = !tls_ca_file.empty() || !tls_certificate_file.empty() || !tls_key_file.empty();
    const bool all = !tls_ca_file.empty() && !tls_certificate_file.empty() && !tls_key_file.empty();
    if (any && !all)
      report("tls_ca_file", "mutual TLS needs tls_ca_file, tls_certificate_file and tls_key_file together");
    for (const std::string& text : endpoints) {
      const std::optional<Endpoint> endpoint = parse_endpoint(text);
      if (!endpoint || endpoint->port == 0) {
        report("endpoints", "`" + text + "` is not host:port");
      } else if (!token_file.empty() && !all && !is_loopback(*endpoint)) {
        report("token_file", "a token on a network needs TLS: without it anybody on the way could read it");
      }
    }
  }
};

}  // namespace ferro
