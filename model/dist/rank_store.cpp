#include "model/dist/rank_store.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/error.h"

namespace ferro {
namespace {

using Variables = std::function<std::optional<std::string>(const std::string&)>;

int number(const Variables& variable, const std::string& name, int least, int most) {
  const std::string text = variable(name).value();
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    fail(ErrorCode::kConfig, "environment variable {}={}: expected a number from {} to {}", name, text, least,
         most);
  return value;
}

int number_or(const Variables& variable, const std::string& name, int least, int most, int otherwise) {
  return variable(name) ? number(variable, name, least, most) : otherwise;
}

/// A socket that listens on one address only; TCPStore by itself would listen on all.
int listening_socket(const std::string& address, std::uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const std::string service = std::to_string(port);
  const int lookup = getaddrinfo(address.c_str(), service.c_str(), &hints, &found);
  if (lookup != 0)
    fail(ErrorCode::kConfig, "rendezvous address {}: {}; set MASTER_ADDR to an address of this machine",
         address, gai_strerror(lookup));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  const int handle = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  if (handle >= 0) setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (handle < 0 || bind(handle, found->ai_addr, found->ai_addrlen) != 0 || listen(handle, 1024) != 0) {
    const int reason = errno;
    if (handle >= 0) close(handle);
    fail(ErrorCode::kUnavailable,
         "cannot open the rendezvous store on {}:{}: {}; is another job using the port, or is MASTER_ADDR "
         "another "
         "machine's?",
         address, port, std::strerror(reason));
  }
  return handle;
}

std::uint16_t port_of(int handle) {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  FERRO_CHECK(getsockname(handle, reinterpret_cast<sockaddr*>(&name), &length) == 0, "getsockname: {}",
              std::strerror(errno));
  return ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(name).sin6_port
                                          : reinterpret_cast<const sockaddr_in&>(name).sin_port);
}

std::string first_line(const char* text) {
  const std::string whole(text);
  return whole.substr(0, whole.find('\n'));
}

}  // namespace

RankEnvironment rank_environment(const Variables& variable) {
  RankEnvironment environment;
  const bool has_rank = variable("RANK").has_value(), has_size = variable("WORLD_SIZE").has_value();
  if (!has_rank && !has_size) return environment;
  if (has_rank != has_size)
    fail(ErrorCode::kConfig,
         "environment variable {} is set and {} is not: set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, "
         "or none",
         has_rank ? "RANK" : "WORLD_SIZE", has_rank ? "WORLD_SIZE" : "RANK");
  constexpr int kMostRanks = 1 << 16;
  environment.world_size = number(variable, "WORLD_SIZE", 1, kMostRanks);
  environment.rank = number(variable, "RANK", 0, environment.world_size - 1);
  environment.local_world_size = number_or(variable, "LOCAL_WORLD_SIZE", 1, environment.world_size, 1);
  environment.local_rank = number_or(variable, "LOCAL_RANK", 0, kMostRanks - 1, 0);
  environment.port =
      static_cast<std::uint16_t>(number_or(variable, "MASTER_PORT", 0, 65535, environment.port));
  if (const auto address = variable("MASTER_ADDR")) environment.address = *address;
  if (environment.world_size > 1 && environment.address.empty())
    fail(ErrorCode::kConfig, "environment variable MASTER_ADDR is empty: name the machine of rank 0");
  environment.hosts_store =
      environment.rank == 0 && variable("TORCHELASTIC_USE_AGENT_STORE").value_or("False") != "True";
  return environment;
}

RankEnvironment rank_environment() {
  return rank_environment([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
}

std::string address_towards(const std::string& host, std::uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;  // Connecting it sends nothing, it only picks the way.
  const std::string service = std::to_string(port == 0 ? 1 : port);
  const int lookup = getaddrinfo(host.c_str(), service.c_str(), &hints, &found);
  if (lookup != 0)
    fail(ErrorCode::kUnavailable, "MASTER_ADDR {} is not found: {}", host, gai_strerror(lookup));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  const int handle = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  std::array<char, NI_MAXHOST> text{};
  const bool known = handle >= 0 && connect(handle, found->ai_addr, found->ai_addrlen) == 0 &&
                     getsockname(handle, reinterpret_cast<sockaddr*>(&name), &length) == 0 &&
                     getnameinfo(reinterpret_cast<sockaddr*>(&name), length, text.data(), text.size(),
                                 nullptr, 0, NI_NUMERICHOST) == 0;
  const int reason = errno;
  if (handle >= 0) close(handle);
  if (!known)
    fail(ErrorCode::kUnavailable, "no way from this machine to MASTER_ADDR {}: {}", host,
         std::strerror(reason));
  return text.data();
}

struct RankStore::Client {
  std::string address;
  c10::intrusive_ptr<c10d::TCPStore> store;

  /// TCPStore's errors become Error{kUnavailable}.
  template <class Call>
  auto call(const std::string& what, Call&& body) {
    try {
      return body(*store);
    } catch (const std::exception& error) {
      fail(ErrorCode::kUnavailable, "rendezvous store at {}:{}: {}: {}", address, store->getPort(), what,
           first_line(error.what()));
    }
  }
};

RankStore::RankStore(const RankEnvironment& environment, std::chrono::milliseconds timeout)
    : client_(std::make_unique<Client>()) {
  // LibTorch's own lines, with stack traces, would bury the one message that says what happened.
  FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, static_cast<int>(c10::GLOG_FATAL));
  client_->address = environment.address;
  c10d::TCPStoreOptions options;
  options.port = environment.port;
  options.isServer = environment.hosts_store;
  options.waitWorkers = false;
  options.timeout = timeout;
  if (environment.hosts_store) {
    options.masterListenFd = listening_socket(environment.address, environment.port);
    options.port = port_of(*options.masterListenFd);
  }
  try {
    client_->store = c10::make_intrusive<c10d::TCPStore>(environment.address, options);
  } catch (const std::exception& error) {
    fail(ErrorCode::kUnavailable,
         "rank {}: no rendezvous store at {}:{} within {} ms: {}; is rank 0 running, and may this machine "
         "reach it?",
         environment.rank, environment.address, options.port, timeout.count(), first_line(error.what()));
  }
}

RankStore::~RankStore() = default;

std::uint16_t RankStore::port() const {
  return client_->store->getPort();
}

void RankStore::set(const std::string& key, const std::string& value) {
  client_->call("set " + key, [&](c10d::TCPStore& store) {
    store.set(key, std::vector<std::uint8_t>(value.begin(), value.end()));
  });
}

std::string RankStore::get(const std::string& key) {
  return client_->call("get " + key, [&](c10d::TCPStore& store) {
    const std::vector<std::uint8_t> value = store.get(key);
    return std::string(value.begin(), value.end());
  });
}

void RankStore::wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout) {
  client_->call("wait for " + (keys.empty() ? "nothing" : keys.front()),
                [&](c10d::TCPStore& store) { store.wait(keys, timeout); });
}

std::optional<std::string> RankStore::find(const std::string& key) {
  const bool there =
      client_->call("look for " + key, [&](c10d::TCPStore& store) { return store.check({key}); });
  return there ? std::optional(get(key)) : std::nullopt;
}

std::int64_t RankStore::add(const std::string& key, std::int64_t amount) {
  return client_->call("add to " + key, [&](c10d::TCPStore& store) { return store.add(key, amount); });
}

}  // namespace ferro
