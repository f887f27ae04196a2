#include "model/low_rank.h"

#include <algorithm>
#include <array>

#include <ATen/Parallel.h>

#include "core/keyed_random.h"
#include "model/ops.h"

namespace ferro {
namespace {

/// One factor per element: 0 or 1 / (1 - rate). Four columns share a Philox block, counted by row and column.
at::Tensor dropout_factors(std::int64_t rows, std::int64_t columns, const DropoutState& dropout,
                           std::uint64_t layer) {
  KeyedRandom random(dropout.seed, RandomPurpose::kDropout, {dropout.step, dropout.pass, layer});
  std::array<std::uint32_t, 4> words{};
  for (std::uint32_t& word : words) word = random.next_u32();
  const auto threshold = static_cast<std::uint32_t>(dropout.rate * 0x1p32);
  const auto kept = static_cast<float>(1.0 / (1.0 - dropout.rate));
  at::Tensor factors = at::empty({rows, columns}, at::kFloat);
  float* out = factors.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t column = 0; column < columns; column += 4) {
        const std::array<std::uint32_t, 4> bits = philox4x32(
            {static_cast<std::uint32_t>(column / 4), static_cast<std::uint32_t>(row), words[2], words[3]},
            {words[0], words[1]});
        for (std::int64_t i = column; i < std::min(columns, column + 4); ++i)
          out[row * columns + i] = bits[static_cast<std::size_t>(i - column)] < threshold ? 0.0F : kept;
      }
    }
  });
  return factors;
}

/// In pieces, so that what is added takes no memory of the layer's size. Rows do not depend on each other.
template <class Piece>
void by_rows(std::int64_t rows, const Piece& piece) {
  constexpr std::int64_t kRows = 256;
  for (std::int64_t begin = 0; begin < rows; begin += kRows) piece(begin, std::min(kRows, rows - begin));
}

at::Tensor adapter_input(const at::Tensor& x, const DropoutState& dropout, std::uint64_t layer) {
  return dropout.active ? drop(x, dropout, layer) : x;
}

}  // namespace

at::Tensor drop(const at::Tensor& x, const DropoutState& dropout, std::uint64_t layer) {
  return x * dropout_factors(x.size(0), x.size(1), dropout, layer).to(x.options());
}

LowRankRecord low_rank_record(const at::Tensor& x, const LowRankWeights& w) {
  LowRankRecord record;
  if (w.dropout != nullptr && w.dropout->active && w.dropout->rate > 0) record.dropout = *w.dropout;
  record.reduced_NR = linear(adapter_input(x, record.dropout, w.layer), w.a);
  record.reduced_NR.mul_(w.scale);
  return record;
}

LowRankRecord add_low_rank(const at::Tensor& x, const LowRankWeights& w, at::Tensor& y) {
  LowRankRecord record = low_rank_record(x, w);
  by_rows(y.size(0), [&](std::int64_t begin, std::int64_t rows) {
    y.narrow(0, begin, rows).add_(linear(record.reduced_NR.narrow(0, begin, rows), w.b));
  });
  return record;
}

void low_rank_backward(const at::Tensor& x, const at::Tensor& grad_y, const LowRankWeights& w,
                       const LowRankRecord& record, at::Tensor& dx) {
  const at::Tensor grad_reduced = linear_backward(record.reduced_NR, grad_y, w.b, true).mul_(w.scale);
  linear_backward(adapter_input(x, record.dropout, w.layer), grad_reduced, w.a, false);
  if (!dx.defined()) return;
  LinearWeights a = w.a;
  a.weight.grad.reset();
  if (record.dropout.active) {
    dx.add_(drop(linear_backward(x, grad_reduced, a, true), record.dropout, w.layer));
    return;
  }
  by_rows(dx.size(0), [&](std::int64_t begin, std::int64_t rows) {
    dx.narrow(0, begin, rows)
        .add_(linear_backward(x.narrow(0, begin, rows), grad_reduced.narrow(0, begin, rows), a, true));
  });
}

}  // namespace ferro
