#include "trainer/rank_sums.h"

#include <bit>
#include <cstdint>
#include <string>

#include "trainer/rank_world.h"

namespace ferro {
namespace {

constexpr std::size_t kValueBytes = 8;

// name, a zero byte, the value's bits.
std::string bytes_of(const MetricSums& sums) {
  std::string bytes;
  for (const auto& [name, value] : sums) {
    bytes += name;
    bytes += '\0';
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (std::size_t i = 0; i < kValueBytes; ++i) bytes += static_cast<char>((bits >> (8 * i)) & 0xFF);
  }
  return bytes;
}

MetricSums sums_of(const std::string& bytes) {
  MetricSums sums;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = bytes.find('\0', at);
    const std::string name = bytes.substr(at, end - at);
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < kValueBytes; ++i)
      bits |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[end + 1 + i])) << (8 * i);
    sums[name] = std::bit_cast<double>(bits);
    at = end + 1 + kValueBytes;
  }
  return sums;
}

}  // namespace

MetricSums sums_over_ranks(const MetricSums& sums, Communicator& communicator) {
  if (communicator.world_size() == 1) return sums;
  MetricSums merged;
  for (const std::string& part : gather_texts(bytes_of(sums), communicator))
    merge_sums(merged, sums_of(part));
  return merged;
}

}  // namespace ferro
