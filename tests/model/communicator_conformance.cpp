#include "tests/model/communicator_conformance.h"

#include <fmt/format.h>

namespace ferro::testing {
namespace {

class Checker {
 public:
  Checker(Communicator& communicator, at::Device device) : communicator_(communicator), device_(device) {}

  void expect(bool holds, const std::string& what) {
    if (!holds) failures_.push_back(fmt::format("rank {} of {}: {}", rank(), world(), what));
  }
  int rank() const { return communicator_.rank(); }
  int world() const { return communicator_.world_size(); }

  void identity() { expect(world() >= 1 && rank() >= 0 && rank() < world(), "rank outside the world"); }

  /// Rank r brings r + 1 times 0, 1, 2, ...: the sum is world (world + 1) / 2 times that, exact in fp32.
  void sums(std::int64_t size, at::ScalarType dtype) {
    const at::Tensor base = at::arange(size, at::kDouble).remainder(100);
    at::Tensor buffer = (base * (rank() + 1)).to(device_, dtype);
    communicator_.all_reduce_sum(buffer);
    const at::Tensor expected = base * (world() * (world() + 1) / 2);
    expect(buffer.to(at::kCPU, at::kDouble).equal(expected),
           fmt::format("sum of {} elements of {}", size, at::toString(dtype)));
  }

  /// Values whose fp32 sum depends on the order: 1e8, then ones that vanish beside it, then -1e8.
  void rank_order() {
    const auto value_of = [&](int r) {
      return r == 0 ? 1e8f : r == world() - 1 ? -1e8f : 1.0f + static_cast<float>(r);
    };
    at::Tensor buffer =
        at::full({37}, value_of(rank()), at::TensorOptions().dtype(at::kFloat).device(device_));
    communicator_.all_reduce_sum(buffer);
    float expected = value_of(0);
    for (int r = 1; r < world(); ++r) expected += value_of(r);
    expect(buffer.cpu().eq(expected).all().item<bool>(), "sum is not in rank order");
  }

  /// Slices of 0, 1, 2, ... elements, the last rank's taking what is left: the sum of a slice has the bits
  /// of all_reduce_sum, and gathering gives all of them to all.
  void scattered(at::ScalarType dtype) {
    std::vector<std::int64_t> bounds{0};
    for (int r = 0; r < world(); ++r) bounds.push_back(bounds.back() + r);
    bounds.back() = 1001;
    at::Tensor buffer = at::sin(at::arange(1001, at::kDouble) * (rank() + 1)).mul(1e3).to(device_, dtype);
    at::Tensor whole = buffer.clone();
    communicator_.all_reduce_sum(whole);
    communicator_.reduce_scatter_sum(buffer, bounds);
    const auto own = static_cast<std::size_t>(rank());
    const auto slice_of = [&](const at::Tensor& t) {
      return t.narrow(0, bounds[own], bounds[own + 1] - bounds[own]);
    };
    expect(slice_of(buffer).equal(slice_of(whole)),
           "reduce_scatter_sum gives other bits than all_reduce_sum");
    communicator_.all_gather(buffer, bounds);
    expect(buffer.equal(whole), "all_gather of the slices is not the whole");
    at::Tensor bytes = at::full({3 * world()}, rank(), at::kByte).to(device_);
    communicator_.all_gather(bytes, equal_bounds(bytes.numel(), world()));
    for (int r = 0; r < world(); ++r)
      expect(bytes.narrow(0, 3 * r, 3).eq(r).all().item<bool>(), fmt::format("bytes of rank {}", r));
  }

  /// Every rank must have the same bits: the largest difference to rank 0's sum is zero.
  void same_bits() {
    at::Tensor buffer = at::sin(at::arange(1000, at::kFloat) * (rank() + 1)).to(device_);
    communicator_.all_reduce_sum(buffer);
    at::Tensor first = buffer.clone();
    communicator_.broadcast(first, 0);
    expect(buffer.equal(first), "ranks hold different bits after a sum");
  }

  void maximum() {
    expect(communicator_.all_reduce_max(rank() * 10 - 5) == (world() - 1) * 10 - 5, "maximum of 10 r - 5");
    expect(communicator_.all_reduce_max(-rank()) == 0, "maximum of -r");
    const std::int64_t large = (std::int64_t{1} << 62) + rank();
    expect(communicator_.all_reduce_max(large) == (std::int64_t{1} << 62) + world() - 1,
           "maximum of large integers");
  }

  void broadcasts() {
    for (int root = 0; root < world(); ++root) {
      at::Tensor buffer = at::arange(13, at::kFloat).add(100.0 * rank()).to(device_);
      communicator_.broadcast(buffer, root);
      expect(buffer.cpu().equal(at::arange(13, at::kFloat).add(100.0 * root)),
             fmt::format("broadcast from {}", root));
    }
  }

  void many_in_a_row() {
    for (int i = 0; i < 50; ++i) {
      at::Tensor buffer = at::full({5}, i + rank(), at::TensorOptions().dtype(at::kFloat).device(device_));
      communicator_.all_reduce_sum(buffer);
      const float expected = static_cast<float>(world() * i + world() * (world() - 1) / 2);
      expect(buffer.cpu().eq(expected).all().item<bool>(), fmt::format("collective {} of a sequence", i));
      communicator_.barrier();
    }
  }

  std::vector<std::string> failures_;

 private:
  Communicator& communicator_;
  at::Device device_;
};

}  // namespace

std::vector<std::string> check_communicator(Communicator& communicator, at::Device device, bool rank_order) {
  Checker checker(communicator, device);
  checker.identity();
  for (const std::int64_t size : {0, 1, 2, 3, 7, 64, 4097}) checker.sums(size, at::kFloat);
  for (const at::ScalarType dtype : {at::kDouble, at::kLong}) checker.sums(100, dtype);
  checker.sums(25, at::kBFloat16);  // Below 256 every sum is exact in bfloat16 up to 4 ranks.
  if (rank_order) checker.rank_order();
  if (rank_order)
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) checker.scattered(dtype);
  checker.same_bits();
  checker.maximum();
  checker.broadcasts();
  checker.many_in_a_row();
  return checker.failures_;
}

}  // namespace ferro::testing
