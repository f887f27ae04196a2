#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <mutex>
#include <optional>

#include "model/dist/collective.h"
#include "model/dist/communicator.h"
#include "model/dist/rank_order_sum.h"

namespace ferro {
namespace {

/// What a rank brings to a collective.
struct Post {
  Collective operation = Collective::kNone;
  at::Tensor buffer;
  std::int64_t value = 0;  ///< all_reduce_max: its operand; broadcast: the root; else of the bounds.
};

/// What the ranks share. A collective is: post, meet, check and work, meet. Nobody reads another's post after
/// the second meeting.
struct Group {
  explicit Group(int world_size)
      : posts(static_cast<std::size_t>(world_size)),
        meetings_attended(static_cast<std::size_t>(world_size)),
        meeting(world_size) {
    for (auto& attended : meetings_attended) attended = kStillHere;
  }
  static constexpr std::int64_t kStillHere = -1;
  std::vector<Post> posts;
  std::vector<std::atomic<std::int64_t>> meetings_attended;  ///< Of a rank that has left.
  std::mutex mutex;
  std::optional<Error> failure;  ///< Why the first rank left, where it said so.
  std::barrier<> meeting;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  ~ThreadCommunicator() override { leave(); }
  ThreadCommunicator(const ThreadCommunicator&) = delete;
  ThreadCommunicator& operator=(const ThreadCommunicator&) = delete;

  int rank() const override { return rank_; }
  int world_size() const override { return static_cast<int>(group_->posts.size()); }

  void all_reduce_sum(at::Tensor& buffer) override {
    begin({Collective::kAllReduceSum, buffer, 0});
    const std::vector<std::int64_t> bounds = equal_bounds(buffer.numel(), world_size());
    const at::Tensor sum = sum_of_slice(bounds);
    if (sum.defined())
      for (const Post& post : group_->posts) slice_of(post.buffer, bounds, rank_).copy_(sum);
    end();
  }

  void reduce_scatter_sum(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("reduce_scatter_sum", bounds, buffer.numel(), world_size());
    begin({Collective::kReduceScatterSum, buffer, digest_of(bounds)});
    const at::Tensor sum = sum_of_slice(bounds);
    // Others read only their own slices of this buffer.
    if (sum.defined()) slice_of(buffer, bounds, rank_).copy_(sum);
    end();
  }

  void all_gather(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("all_gather", bounds, buffer.numel(), world_size());
    begin({Collective::kAllGather, buffer, digest_of(bounds)});
    const at::NoGradGuard no_grad;
    for (int r = 0; r < world_size(); ++r)
      if (r != rank_)
        slice_of(buffer, bounds, r)
            .copy_(slice_of(group_->posts[static_cast<std::size_t>(r)].buffer, bounds, r));
    end();
  }

  std::int64_t all_reduce_max(std::int64_t value) override {
    begin({Collective::kAllReduceMax, {}, value});
    std::int64_t largest = value;
    for (const Post& post : group_->posts) largest = std::max(largest, post.value);
    end();
    return largest;
  }

  void broadcast(at::Tensor& buffer, int root) override {
    FERRO_CHECK(root >= 0 && root < world_size(), "root {} of {} ranks", root, world_size());
    begin({Collective::kBroadcast, buffer, root});
    if (root != rank_) buffer.copy_(group_->posts[static_cast<std::size_t>(root)].buffer);
    end();
  }

  void barrier() override {
    begin({Collective::kBarrier, {}, 0});
    end();
  }

  void abandon(const Error& reason) noexcept override {
    if (left_) return;
    try {
      const std::scoped_lock lock(group_->mutex);
      if (!group_->failure)
        group_->failure.emplace(reason.code(), fmt::format("rank {}: {}", rank_, reason.what()));
    } catch (...) {  // The others then learn only that this rank is gone.
    }
    leave();
  }

 private:
  std::size_t index() const { return static_cast<std::size_t>(rank_); }

  void leave() noexcept {
    if (left_) return;
    left_ = true;
    // Whoever waits for this rank is released, sees the mark, and fails.
    group_->meetings_attended[index()] = meetings_;
    group_->meeting.arrive_and_drop();
  }

  void begin(Post post) {
    FERRO_CHECK(!left_, "{} in a group that this rank has left", name_of(post.operation));
    group_->posts[index()] = std::move(post);
    meet();
    check_agreement();
  }

  void end() {
    meet();
    group_->posts[index()] = {};
  }

  /// Waits for all ranks. A rank that left before this meeting makes every other fail here, with its number.
  void meet() {
    group_->meeting.arrive_and_wait();
    ++meetings_;
    for (std::size_t r = 0; r < group_->meetings_attended.size(); ++r) {
      const std::int64_t attended = group_->meetings_attended[r];
      if (attended == Group::kStillHere || attended >= meetings_) continue;
      const std::scoped_lock lock(group_->mutex);
      if (group_->failure) throw *group_->failure;
      fail(ErrorCode::kUnavailable, "rank {}: rank {} left the group before {}", rank_, r,
           name_of(group_->posts[index()].operation));
    }
  }

  /// All ranks see the same posts, so all of them pass or all of them fail.
  void check_agreement() const {
    const Post& first = group_->posts.front();
    for (std::size_t r = 1; r < group_->posts.size(); ++r) {
      const Post& post = group_->posts[r];
      FERRO_CHECK(post.operation == first.operation, "rank {} calls {}, rank 0 calls {}", r,
                  name_of(post.operation), name_of(first.operation));
      if (post.operation == Collective::kBroadcast)
        FERRO_CHECK(post.value == first.value, "rank {} broadcasts from {}, rank 0 from {}", r, post.value,
                    first.value);
      if (!first.buffer.defined()) continue;
      FERRO_CHECK(post.value == first.value, "{}: rank {} and rank 0 cut their buffers differently",
                  name_of(first.operation), r);
      FERRO_CHECK(post.buffer.numel() == first.buffer.numel() &&
                      post.buffer.scalar_type() == first.buffer.scalar_type(),
                  "{}: rank {} has {} elements of {}, rank 0 {} of {}", name_of(first.operation), r,
                  post.buffer.numel(), at::toString(post.buffer.scalar_type()), first.buffer.numel(),
                  at::toString(first.buffer.scalar_type()));
    }
    for (const Post& post : group_->posts)
      FERRO_CHECK(!post.buffer.defined() || post.buffer.is_contiguous(), "{}: a buffer is not contiguous",
                  name_of(post.operation));
  }

  static at::Tensor slice_of(const at::Tensor& buffer, std::span<const std::int64_t> bounds, int rank) {
    const auto r = static_cast<std::size_t>(rank);
    return buffer.view({-1}).narrow(0, bounds[r], bounds[r + 1] - bounds[r]);
  }

  /// Of this rank's slice, over all ranks; undefined where there is nothing to add.
  at::Tensor sum_of_slice(std::span<const std::int64_t> bounds) const {
    if (bounds[index()] == bounds[index() + 1] || world_size() == 1) return {};
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> parts;
    for (const Post& post : group_->posts) parts.push_back(slice_of(post.buffer, bounds, rank_));
    return sum_in_rank_order(parts);
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::int64_t meetings_ = 0;
  bool left_ = false;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int world_size) {
  FERRO_CHECK(world_size > 0, "a group of {} ranks", world_size);
  const auto group = std::make_shared<Group>(world_size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < world_size; ++rank)
    communicators.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  return communicators;
}

}  // namespace ferro
