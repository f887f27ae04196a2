#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>

#include "core/error.h"
#include "model/dist/communicator.h"
#include "model/dist/rank_order_sum.h"

namespace ferro {
namespace {

enum class Operation { kNone, kAllReduceSum, kAllReduceMax, kBroadcast, kBarrier };

const char* name_of(Operation operation) {
  switch (operation) {
    case Operation::kAllReduceSum:
      return "all_reduce_sum";
    case Operation::kAllReduceMax:
      return "all_reduce_max";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kBarrier:
      return "barrier";
    case Operation::kNone:
      break;
  }
  return "nothing";
}

/// What a rank brings to a collective.
struct Post {
  Operation operation = Operation::kNone;
  at::Tensor buffer;
  std::int64_t value = 0;  ///< all_reduce_max: its operand; broadcast: the root.
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
  std::barrier<> meeting;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  ~ThreadCommunicator() override {
    // Whoever waits for this rank is released, sees the mark, and fails.
    group_->meetings_attended[index()] = meetings_;
    group_->meeting.arrive_and_drop();
  }

  int rank() const override { return rank_; }
  int world_size() const override { return static_cast<int>(group_->posts.size()); }

  void all_reduce_sum(at::Tensor& buffer) override {
    begin({Operation::kAllReduceSum, buffer, 0});
    sum_own_slice();
    end();
  }

  std::int64_t all_reduce_max(std::int64_t value) override {
    begin({Operation::kAllReduceMax, {}, value});
    std::int64_t largest = value;
    for (const Post& post : group_->posts) largest = std::max(largest, post.value);
    end();
    return largest;
  }

  void broadcast(at::Tensor& buffer, int root) override {
    FERRO_CHECK(root >= 0 && root < world_size(), "root {} of {} ranks", root, world_size());
    begin({Operation::kBroadcast, buffer, root});
    if (root != rank_) buffer.copy_(group_->posts[static_cast<std::size_t>(root)].buffer);
    end();
  }

  void barrier() override {
    begin({Operation::kBarrier, {}, 0});
    end();
  }

 private:
  std::size_t index() const { return static_cast<std::size_t>(rank_); }

  void begin(Post post) {
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
      if (attended != Group::kStillHere && attended < meetings_)
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
      if (post.operation == Operation::kBroadcast)
        FERRO_CHECK(post.value == first.value, "rank {} broadcasts from {}, rank 0 from {}", r, post.value,
                    first.value);
      if (!first.buffer.defined()) continue;
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

  /// Each rank sums one slice over all ranks, in rank order, and writes it to every rank's buffer.
  void sum_own_slice() const {
    const RankSlice own = rank_slice(group_->posts.front().buffer.numel(), rank_, world_size());
    if (own.length == 0 || world_size() == 1) return;
    const at::NoGradGuard no_grad;
    const auto slice = [&](const Post& post) {
      return post.buffer.view({-1}).narrow(0, own.begin, own.length);
    };
    std::vector<at::Tensor> parts;
    for (const Post& post : group_->posts) parts.push_back(slice(post));
    const at::Tensor sum = sum_in_rank_order(parts);
    for (const Post& post : group_->posts) slice(post).copy_(sum);
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::int64_t meetings_ = 0;
};

}  // namespace

at::Tensor sum_in_rank_order(const std::vector<at::Tensor>& parts) {
  const at::ScalarType dtype = parts.front().scalar_type();
  const bool narrow = dtype == at::kBFloat16 || dtype == at::kHalf;
  at::Tensor sum = parts.front().to(narrow ? at::kFloat : dtype, /*non_blocking=*/false, /*copy=*/true);
  for (std::size_t r = 1; r < parts.size(); ++r) sum.add_(parts[r]);
  return sum.to(dtype);
}

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int world_size) {
  FERRO_CHECK(world_size > 0, "a group of {} ranks", world_size);
  const auto group = std::make_shared<Group>(world_size);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < world_size; ++rank)
    communicators.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  return communicators;
}

}  // namespace ferro
