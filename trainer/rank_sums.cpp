#include "trainer/rank_sums.h"

#include <bit>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "model/aten.h"

namespace ferro {
namespace {

constexpr int kValueBytes = 8;

// name, a zero byte, the value's bits.
std::string bytes_of(const MetricSums& sums) {
  std::string bytes;
  for (const auto& [name, value] : sums) {
    bytes += name;
    bytes += '\0';
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int i = 0; i < kValueBytes; ++i) bytes += static_cast<char>((bits >> (8 * i)) & 0xFF);
  }
  return bytes;
}

// `row`: one byte per element, 0 to 255; past the last entry zeros.
MetricSums sums_of(const double* row, std::int64_t size) {
  MetricSums sums;
  std::int64_t at = 0;
  while (at < size && row[at] != 0) {
    std::string name;
    while (row[at] != 0) name += static_cast<char>(static_cast<unsigned char>(row[at++]));
    ++at;
    std::uint64_t bits = 0;
    for (int i = 0; i < kValueBytes; ++i) bits |= static_cast<std::uint64_t>(row[at++]) << (8 * i);
    sums[name] = std::bit_cast<double>(bits);
  }
  return sums;
}

}  // namespace

MetricSums sums_over_ranks(const MetricSums& sums, Communicator& communicator) {
  const std::int64_t ranks = communicator.world_size();
  if (ranks == 1) return sums;
  const std::string own = bytes_of(sums);
  const std::int64_t width = communicator.all_reduce_max(static_cast<std::int64_t>(own.size()));
  if (width == 0) return {};
  at::Tensor all = at::zeros({ranks, width}, at::kDouble);
  double* row = all.data_ptr<double>() + communicator.rank() * width;
  for (std::size_t i = 0; i < own.size(); ++i) row[i] = static_cast<unsigned char>(own[i]);
  communicator.all_reduce_sum(all);
  MetricSums merged;
  for (std::int64_t r = 0; r < ranks; ++r)
    merge_sums(merged, sums_of(all.const_data_ptr<double>() + r * width, width));
  return merged;
}

LossNormaliser normaliser_over_ranks(const LossNormaliser& part, Communicator& communicator) {
  if (communicator.world_size() == 1) return part;
  at::Tensor sums = at::zeros({3}, at::kDouble);
  double* values = sums.data_ptr<double>();
  values[0] = static_cast<double>(part.sequences_in_step);
  values[1] = part.tokens_in_step;
  values[2] = static_cast<double>(part.micro_batches);
  communicator.all_reduce_sum(sums);
  return {.sequences_in_step = static_cast<std::int64_t>(values[0]),
          .tokens_in_step = values[1],
          .micro_batches = static_cast<std::int64_t>(values[2])};
}

}  // namespace ferro
