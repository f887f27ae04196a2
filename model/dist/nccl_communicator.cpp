#include "model/dist/nccl_communicator.h"

#include <cstring>
#include <thread>

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>
#include <nccl.h>

#include "core/error.h"
#include "model/dist/rank_order_sum.h"

namespace ferro {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kPollInterval{50};

static_assert(sizeof(NcclGroupId::bytes) == sizeof(ncclUniqueId));

void check_cuda(cudaError_t status, int rank, const char* what) {
  if (status != cudaSuccess)
    fail(ErrorCode::kUnavailable, "rank {}: {}: {}", rank, what, cudaGetErrorString(status));
}

ncclDataType_t data_type(const at::Tensor& buffer) {
  switch (buffer.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kHalf:
      return ncclFloat16;
    case at::kLong:
      return ncclInt64;
    case at::kInt:
      return ncclInt32;
    case at::kByte:
      return ncclUint8;
    default:
      break;
  }
  FERRO_CHECK(false, "{} does not travel by NCCL", at::toString(buffer.scalar_type()));
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const NcclGroupId& id, int rank, int world_size, const NcclOptions& options)
      : rank_(rank), world_size_(world_size), options_(options) {
    FERRO_CHECK(rank >= 0 && rank < world_size, "rank {} of {}", rank, world_size);
    const c10::cuda::CUDAGuard guard(device());
    ncclUniqueId unique;
    std::memcpy(&unique, id.bytes.data(), sizeof(unique));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      started(ncclCommInitRankConfig(&communicator_, world_size, unique, rank, &config), "start");
      wait_until_ready("start", SteadyClock::now() + options_.start_timeout);
    } catch (...) {
      abort();
      throw;
    }
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  ~NcclCommunicator() override { abort(); }

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  c10::Device device() const override { return {c10::kCUDA, static_cast<c10::DeviceIndex>(options_.device)}; }

  void all_reduce_sum(at::Tensor& buffer) override {
    collective("all_reduce_sum", buffer, [&](cudaStream_t stream) {
      return ncclAllReduce(buffer.data_ptr(), buffer.data_ptr(), count(buffer), data_type(buffer), ncclSum,
                           communicator_, stream);
    });
  }

  void reduce_scatter_sum(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("reduce_scatter_sum", bounds, buffer.numel(), world_size_);
    collective("reduce_scatter_sum", buffer, [&](cudaStream_t stream) {
      return slice_by_slice(buffer, bounds, [&](void* slice, std::size_t length, int rank) {
        return ncclReduce(slice, slice, length, data_type(buffer), ncclSum, rank, communicator_, stream);
      });
    });
  }

  void all_gather(at::Tensor& buffer, std::span<const std::int64_t> bounds) override {
    check_bounds("all_gather", bounds, buffer.numel(), world_size_);
    collective("all_gather", buffer, [&](cudaStream_t stream) {
      return slice_by_slice(buffer, bounds, [&](void* slice, std::size_t length, int rank) {
        return ncclBroadcast(slice, slice, length, data_type(buffer), rank, communicator_, stream);
      });
    });
  }

  std::int64_t all_reduce_max(std::int64_t value) override {
    at::Tensor buffer = at::full({1}, value, at::TensorOptions().dtype(at::kLong).device(device()));
    collective("all_reduce_max", buffer, [&](cudaStream_t stream) {
      return ncclAllReduce(buffer.data_ptr(), buffer.data_ptr(), 1, ncclInt64, ncclMax, communicator_,
                           stream);
    });
    return buffer.item<std::int64_t>();
  }

  void broadcast(at::Tensor& buffer, int root) override {
    FERRO_CHECK(root >= 0 && root < world_size_, "root {} of {} ranks", root, world_size_);
    collective("broadcast", buffer, [&](cudaStream_t stream) {
      return ncclBroadcast(buffer.data_ptr(), buffer.data_ptr(), count(buffer), data_type(buffer), root,
                           communicator_, stream);
    });
  }

  void barrier() override { all_reduce_max(0); }

  /// The others see an aborted communicator, without the reason.
  void abandon(const Error&) noexcept override { abort(); }

 private:
  static std::size_t count(const at::Tensor& buffer) { return static_cast<std::size_t>(buffer.numel()); }

  /// One call per slice, all in one launch; slices need not be equal.
  template <class Call>
  static ncclResult_t slice_by_slice(at::Tensor& buffer, std::span<const std::int64_t> bounds, Call&& call) {
    auto* const bytes = static_cast<char*>(buffer.data_ptr());
    ncclResult_t result = ncclGroupStart();
    for (std::size_t r = 0; r + 1 < bounds.size() && result == ncclSuccess; ++r) {
      if (bounds[r] == bounds[r + 1]) continue;
      const ncclResult_t called =
          call(bytes + bounds[r] * static_cast<std::int64_t>(buffer.element_size()),
               static_cast<std::size_t>(bounds[r + 1] - bounds[r]), static_cast<int>(r));
      if (called != ncclInProgress) result = called;
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result == ncclSuccess ? ended : result;
  }

  /// Enqueues on the current stream, after what produced the buffer, and waits for the end.
  template <class Enqueue>
  void collective(const char* operation, const at::Tensor& buffer, Enqueue&& enqueue) {
    FERRO_CHECK(communicator_ != nullptr, "{} on a communicator that was aborted", operation);
    FERRO_CHECK(buffer.device() == device() && buffer.is_contiguous(), "{}: a buffer on {}, contiguous {}",
                operation, buffer.device().str(), buffer.is_contiguous());
    if (buffer.numel() == 0) return;
    const c10::cuda::CUDAGuard guard(device());
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device().index()).stream();
    const SteadyClock::time_point deadline = SteadyClock::now() + options_.collective_timeout;
    try {
      started(enqueue(stream), operation);
      wait_until_ready(operation, deadline);
      wait_for_stream(stream, operation, deadline);
    } catch (...) {
      // The group is of no more use: peers that wait for this rank must not wait for ever.
      abort();
      throw;
    }
  }

  void started(ncclResult_t result, const char* operation) const {
    if (result != ncclSuccess && result != ncclInProgress) fail_with(result, operation);
  }

  [[noreturn]] void fail_with(ncclResult_t result, const char* operation) const {
    fail(ErrorCode::kUnavailable, "rank {} of {}: {}: NCCL: {} ({})", rank_, world_size_, operation,
         ncclGetErrorString(result), ncclGetLastError(communicator_));
  }

  void check_deadline(const char* operation, SteadyClock::time_point deadline) const {
    if (SteadyClock::now() > deadline)
      fail(ErrorCode::kUnavailable, "rank {} of {}: {} did not end in time; a peer is late or gone", rank_,
           world_size_, operation);
  }

  void check_progress(const char* operation, ncclResult_t& state) const {
    const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
    if (asked != ncclSuccess) fail_with(asked, operation);
    if (state != ncclSuccess && state != ncclInProgress) fail_with(state, operation);
  }

  void wait_until_ready(const char* operation, SteadyClock::time_point deadline) const {
    ncclResult_t state = ncclInProgress;
    for (check_progress(operation, state); state == ncclInProgress; check_progress(operation, state)) {
      check_deadline(operation, deadline);
      std::this_thread::sleep_for(kPollInterval);
    }
  }

  void wait_for_stream(cudaStream_t stream, const char* operation, SteadyClock::time_point deadline) const {
    ncclResult_t state = ncclSuccess;
    cudaError_t status = cudaStreamQuery(stream);
    for (; status == cudaErrorNotReady; status = cudaStreamQuery(stream)) {
      check_progress(operation, state);
      check_deadline(operation, deadline);
      std::this_thread::sleep_for(kPollInterval);
    }
    check_cuda(status, rank_, operation);
  }

  void abort() noexcept {
    if (communicator_ != nullptr) ncclCommAbort(communicator_);
    communicator_ = nullptr;
  }

  int rank_, world_size_;
  NcclOptions options_;
  ncclComm_t communicator_ = nullptr;
};

}  // namespace

NcclGroupId make_nccl_group_id() {
  ncclUniqueId unique;
  const ncclResult_t result = ncclGetUniqueId(&unique);
  if (result != ncclSuccess)
    fail(ErrorCode::kUnavailable, "NCCL: no group id: {}", ncclGetErrorString(result));
  NcclGroupId id;
  std::memcpy(id.bytes.data(), &unique, sizeof(unique));
  return id;
}

std::unique_ptr<Communicator> make_nccl_communicator(const NcclGroupId& id, int rank, int world_size,
                                                     const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(id, rank, world_size, options);
}

}  // namespace ferro
