#include "model/dist/gloo_communicator.h"

#include <dlfcn.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string_view>
#include <thread>

#include <gloo/allgather.h>
#include <gloo/allgatherv.h>
#include <gloo/alltoallv.h>
#include <gloo/broadcast.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>

#include "core/error.h"
#include "model/dist/collective.h"
#include "model/dist/rank_order_sum.h"

namespace ferro {
namespace {

/// LibTorch has functions of the same names that take other arguments.
void check_library() {
  void (*const exchange)(gloo::AlltoallvOptions&) = &gloo::alltoallv;
  Dl_info info{};
  FERRO_CHECK(dladdr(reinterpret_cast<const void*>(exchange), &info) != 0, "Gloo's library is unknown");
  FERRO_CHECK(std::string_view(info.dli_fname).find("libtorch") == std::string_view::npos,
              "Gloo's functions come from {}: libgloo must be linked before LibTorch", info.dli_fname);
}

/// Gloo's way to exchange addresses, through the job's store.
class GlooStore final : public gloo::rendezvous::Store {
 public:
  GlooStore(RankStore& store, std::string prefix) : store_(store), prefix_(std::move(prefix)) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    store_.set(prefix_ + key, std::string(data.begin(), data.end()));
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = store_.get(prefix_ + key);
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, kDefaultTimeout); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    std::vector<std::string> prefixed;
    for (const std::string& key : keys) prefixed.push_back(prefix_ + key);
    store_.wait(prefixed, timeout);
  }

 private:
  RankStore& store_;
  std::string prefix_;
};

/// What a rank is about to do; all ranks must say the same of the first four.
struct Intent {
  std::int64_t operation = 0, elements = 0, dtype = -1, root = 0;  ///< `root`, or the digest of the bounds.
  std::int64_t value = 0;                                          ///< all_reduce_max: the rank's operand.
};

/// For other ranks to read why this one leaves.
constexpr std::chrono::seconds kFarewell{3};

class GlooCommunicator final : public Communicator {
 public:
  GlooCommunicator(std::shared_ptr<RankStore> store, int rank, int world_size, const GlooOptions& options)
      : store_(std::move(store)), rank_(rank), world_size_(world_size), options_(options) {
    post(Collective::kStart);
    guarded(Collective::kStart, options_.start_timeout, [&] {
      auto device = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(options_.address.c_str()));
      auto context = std::make_shared<gloo::rendezvous::Context>(rank_, world_size_);
      context->setTimeout(options_.start_timeout);
      GlooStore addresses(*store_, options_.group + "/address/");
      context->connectFullMesh(addresses, device);
      context->setTimeout(options_.collective_timeout);
      context_ = std::move(context);
    });
  }
  ~GlooCommunicator() override { leave(); }
  GlooCommunicator(const GlooCommunicator&) = delete;
  GlooCommunicator& operator=(const GlooCommunicator&) = delete;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  void all_reduce_sum(at::Tensor& buffer) override {
    collective(Collective::kAllReduceSum, &buffer, 0, 0, [&](const std::vector<Intent>&) {
      if (buffer.numel() == 0) return;
      const std::vector<std::int64_t> bounds = equal_bounds(buffer.numel(), world_size_);
      sum_own_slice(buffer, bounds);
      gather_slices(buffer, bounds);
    });
  }

  void reduce_scatter_sum(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("reduce_scatter_sum", bounds, buffer.numel(), world_size_);
    collective(Collective::kReduceScatterSum, &buffer, digest_of(bounds), 0, [&](const std::vector<Intent>&) {
      if (buffer.numel() > 0) sum_own_slice(buffer, bounds);
    });
  }

  void all_gather(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("all_gather", bounds, buffer.numel(), world_size_);
    collective(Collective::kAllGather, &buffer, digest_of(bounds), 0, [&](const std::vector<Intent>&) {
      if (buffer.numel() > 0) gather_slices(buffer, bounds);
    });
  }

  std::int64_t all_reduce_max(std::int64_t value) override {
    std::int64_t largest = value;
    collective(Collective::kAllReduceMax, nullptr, 0, value, [&](const std::vector<Intent>& intents) {
      for (const Intent& intent : intents) largest = std::max(largest, intent.value);
    });
    return largest;
  }

  void broadcast(at::Tensor& buffer, int root) override {
    FERRO_CHECK(root >= 0 && root < world_size_, "root {} of {} ranks", root, world_size_);
    collective(Collective::kBroadcast, &buffer, root, 0, [&](const std::vector<Intent>&) {
      if (buffer.numel() == 0) return;
      gloo::BroadcastOptions broadcast(context_);
      broadcast.setOutput(static_cast<char*>(buffer.data_ptr()), buffer.nbytes());
      broadcast.setRoot(root);
      gloo::broadcast(broadcast);
    });
  }

  void barrier() override {
    collective(Collective::kBarrier, nullptr, 0, 0, [](const std::vector<Intent>&) {});
  }

  void abandon(const Error& reason) noexcept override {
    if (abandoned_) return;
    abandoned_ = true;
    try {
      // Said before the connections go: whoever sees them go finds it.
      if (store_->add(options_.group + "/failures", 1) == 1)
        store_->set(failure_key(), fmt::format("{} rank {}: {}", reason.exit_code(), rank_, reason.what()));
      leave();
      store_->add(options_.group + "/left", 1);
      // Rank 0's process takes the store with it.
      const auto deadline = std::chrono::steady_clock::now() + kFarewell;
      while (rank_ == 0 && store_->add(options_.group + "/left", 0) < world_size_ &&
             std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    } catch (...) {  // The others then learn only that this rank is gone.
      leave();
    }
  }

 private:
  template <class Work>
  void collective(Collective operation, const at::Tensor* buffer, std::int64_t root, std::int64_t value,
                  Work&& work) {
    FERRO_CHECK(context_ != nullptr, "{} in a group that has failed", name_of(operation));
    Intent own{static_cast<std::int64_t>(operation), 0, -1, root, value};
    if (buffer != nullptr) {
      FERRO_CHECK(buffer->is_contiguous() && buffer->device().is_cpu(), "{}: a buffer on {}, contiguous {}",
                  name_of(Collective{own.operation}), buffer->device().str(), buffer->is_contiguous());
      own.elements = buffer->numel();
      own.dtype = static_cast<std::int64_t>(buffer->scalar_type());
    }
    ++collectives_;
    post(operation);
    guarded(operation, options_.collective_timeout, [&] {
      std::vector<Intent> intents(static_cast<std::size_t>(world_size_));
      gloo::AllgatherOptions gather(context_);
      gather.setInput(reinterpret_cast<char*>(&own), sizeof own);
      gather.setOutput(reinterpret_cast<char*>(intents.data()), sizeof own * intents.size());
      gloo::allgather(gather);
      check_agreement(intents);
      work(intents);
    });
  }

  static void check_agreement(const std::vector<Intent>& intents) {
    const Intent& first = intents.front();
    for (std::size_t r = 1; r < intents.size(); ++r) {
      const Intent& other = intents[r];
      FERRO_CHECK(other.operation == first.operation, "rank {} calls {}, rank 0 calls {}", r,
                  name_of(Collective{other.operation}), name_of(Collective{first.operation}));
      FERRO_CHECK(
          other.root == first.root || first.operation != static_cast<std::int64_t>(Collective::kBroadcast),
          "rank {} broadcasts from {}, rank 0 from {}", r, other.root, first.root);
      FERRO_CHECK(other.elements == first.elements && other.dtype == first.dtype,
                  "{}: rank {} has {} elements of {}, rank 0 {} of {}", name_of(Collective{first.operation}),
                  r, other.elements, at::toString(static_cast<at::ScalarType>(other.dtype)), first.elements,
                  at::toString(static_cast<at::ScalarType>(first.dtype)));
      FERRO_CHECK(other.root == first.root, "{}: rank {} and rank 0 cut their buffers differently",
                  name_of(Collective{first.operation}), r);
    }
  }

  /// Each rank receives its slice from all and sums in rank order.
  void sum_own_slice(at::Tensor& buffer, std::span<const std::int64_t> bounds) {
    const at::NoGradGuard no_grad;
    const auto bytes = static_cast<std::int64_t>(buffer.element_size());
    const auto own = static_cast<std::size_t>(rank_);
    const std::int64_t length = bounds[own + 1] - bounds[own];
    std::vector<std::int64_t> sent;
    for (std::size_t r = 0; r + 1 < bounds.size(); ++r) sent.push_back((bounds[r + 1] - bounds[r]) * bytes);
    at::Tensor received = at::empty({world_size_, length}, buffer.options());
    gloo::AlltoallvOptions exchange(context_);
    exchange.setInput(static_cast<char*>(buffer.data_ptr()), sent);
    exchange.setOutput(static_cast<char*>(received.data_ptr()),
                       std::vector<std::int64_t>(static_cast<std::size_t>(world_size_), length * bytes));
    gloo::alltoallv(exchange);
    if (length > 0)
      buffer.view({-1}).narrow(0, bounds[own], length).copy_(sum_in_rank_order(received.unbind(0)));
  }

  void gather_slices(at::Tensor& buffer, std::span<const std::int64_t> bounds) {
    const auto own = static_cast<std::size_t>(rank_);
    at::Tensor slice = buffer.view({-1}).narrow(0, bounds[own], bounds[own + 1] - bounds[own]).clone();
    std::vector<std::size_t> gathered;
    for (std::size_t r = 0; r + 1 < bounds.size(); ++r)
      gathered.push_back(static_cast<std::size_t>(bounds[r + 1] - bounds[r]) * buffer.element_size());
    gloo::AllgathervOptions gather(context_);
    gather.setInput(static_cast<char*>(slice.data_ptr()), slice.nbytes());
    gather.setOutput(static_cast<char*>(buffer.data_ptr()), gathered);
    gloo::allgatherv(gather);
  }

  std::string failure_key() const { return options_.group + "/failure"; }
  std::string post_key(int rank) const { return options_.group + "/at/" + std::to_string(rank); }

  /// Where this rank is, for those that wait for it.
  void post(Collective operation) {
    store_->set(post_key(rank_), fmt::format("{} {}", collectives_, name_of(operation)));
  }

  template <class Work>
  void guarded(Collective operation, std::chrono::milliseconds timeout, Work&& work) {
    const auto begin = std::chrono::steady_clock::now();
    try {
      work();
    } catch (const std::exception& error) {
      leave();  // Ranks that wait for this one must not wait for ever.
      if (const auto* own = dynamic_cast<const Error*>(&error);
          own != nullptr && own->code() == ErrorCode::kInternal)
        throw;
      throw_failure_of_another();
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      fail(ErrorCode::kUnavailable,
           "rank {} of {}: collective {} ({}) failed after {:.1f} s (limit {:.1f} s): {}; Gloo: {}", rank_,
           world_size_, collectives_, name_of(operation), waited.count(),
           std::chrono::duration<double>(timeout).count(), who_is_behind(), error.what());
    }
  }

  /// Why another rank left, where one said so.
  void throw_failure_of_another() {
    std::optional<std::string> failure;
    try {
      failure = store_->find(failure_key());
    } catch (const std::exception&) {  // The store went with its rank.
      return;
    }
    if (!failure) return;
    const std::size_t space = failure->find(' ');
    throw Error(static_cast<ErrorCode>(std::stoi(failure->substr(0, space))), failure->substr(space + 1));
  }

  /// The ranks that have not come as far as this one, by what they posted last.
  std::string who_is_behind() {
    std::string text;
    try {
      for (int r = 0; r < world_size_; ++r) {
        const auto at = store_->find(post_key(r));
        if (at && std::stoll(*at) >= collectives_) continue;
        text += fmt::format("{}rank {} {}", text.empty() ? "" : ", ", r,
                            at ? "is at collective " + *at : std::string("has not started"));
      }
    } catch (const std::exception& error) {
      return fmt::format("where the others are is unknown ({})", error.what());
    }
    return text.empty() ? "all ranks had come as far, so one has failed or a connection broke" : text;
  }

  void leave() noexcept {
    try {
      if (context_ != nullptr) context_->closeConnections();
    } catch (...) {  // Nothing is left to close then.
    }
    context_ = nullptr;
  }

  std::shared_ptr<RankStore> store_;
  int rank_, world_size_;
  GlooOptions options_;
  std::shared_ptr<gloo::rendezvous::Context> context_;
  std::int64_t collectives_ = 0;
  bool abandoned_ = false;
};

}  // namespace

std::unique_ptr<Communicator> make_gloo_communicator(std::shared_ptr<RankStore> store, int rank,
                                                     int world_size, const GlooOptions& options) {
  FERRO_CHECK(world_size > 0 && rank >= 0 && rank < world_size, "rank {} of {}", rank, world_size);
  check_library();
  // Gloo writes to sockets without MSG_NOSIGNAL: a peer that is gone must be an error, not the end of this
  // process.
  std::signal(SIGPIPE, SIG_IGN);
  if (world_size == 1) return std::move(make_thread_communicators(1).front());
  return std::make_unique<GlooCommunicator>(std::move(store), rank, world_size, options);
}

}  // namespace ferro
