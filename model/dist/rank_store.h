#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ferro {

/// Where this process stands in its job: torchrun's environment variables.
struct RankEnvironment {
  int rank = 0, world_size = 1;              ///< RANK, WORLD_SIZE.
  int local_rank = 0, local_world_size = 1;  ///< LOCAL_RANK, LOCAL_WORLD_SIZE: among those of this machine.
  std::string address = "127.0.0.1";         ///< MASTER_ADDR.
  std::uint16_t port = 29500;                ///< MASTER_PORT.
  bool hosts_store = false;  ///< Rank 0, unless an agent holds the store (TORCHELASTIC_USE_AGENT_STORE=True).
};

/// Reads them; without RANK and WORLD_SIZE a job of one process. Error{kConfig}: a value that is no number or
/// out of range, or one of the variables set without the others; the message names it.
/// `variable` returns nothing for one that is not set.
RankEnvironment rank_environment(
    const std::function<std::optional<std::string>(const std::string& name)>& variable);
RankEnvironment rank_environment();

/// This machine's address on the way to `host`, by which that one can reach it. Error{kUnavailable}: there is
/// no way.
std::string address_towards(const std::string& host, std::uint16_t port);

/// The job's key-value store (LibTorch's TCPStore, the protocol of torchrun's own), by which ranks find each
/// other and say where they are. Its traffic is plain text: the address must belong to a trusted network, and
/// the host listens on that address alone. One client per object; thread-safe.
/// Error{kUnavailable} when the host cannot be reached or does not answer in time, naming address and key.
class RankStore {
 public:
  /// Rank 0 of `environment` opens the store (port 0: a free one, see port()); the others connect, waiting
  /// for it up to `timeout`, which also bounds every later call.
  RankStore(const RankEnvironment& environment, std::chrono::milliseconds timeout);
  ~RankStore();
  RankStore(const RankStore&) = delete;
  RankStore& operator=(const RankStore&) = delete;

  std::uint16_t port() const;
  void set(const std::string& key, const std::string& value);
  /// Waits until somebody has set it.
  std::string get(const std::string& key);
  void wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout);
  /// Nothing when the key is not there yet.
  std::optional<std::string> find(const std::string& key);
  /// Adds to a counter that starts at 0; returns its new value.
  std::int64_t add(const std::string& key, std::int64_t amount);

 private:
  struct Client;
  std::unique_ptr<Client> client_;
};

}  // namespace ferro
