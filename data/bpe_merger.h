#pragma once

#include <cstdint>
#include <vector>

namespace ferro {

/// Applies byte-pair merges: at each step the pair of lowest rank, the leftmost of equals, until none is
/// left. Immutable after the last add(), then thread-safe.
class BpeMerger {
 public:
  explicit BpeMerger(std::size_t expected_merges);
  /// Ranks follow the order of calls; of a pair added twice the last one counts, as in tokenizers.
  void add(std::int32_t left, std::int32_t right, std::int32_t merged);
  void merge(std::vector<std::int32_t>& ids) const;

 private:
  struct Entry {
    std::uint64_t key = kEmpty;
    std::uint32_t rank = 0;
    std::int32_t merged = 0;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  const Entry* find(std::int32_t left, std::int32_t right) const;
  std::size_t slot_of(std::uint64_t key) const;
  void merge_short(std::vector<std::int32_t>& ids) const;
  void merge_long(std::vector<std::int32_t>& ids) const;

  std::vector<Entry> entries_;
  std::uint32_t next_rank_ = 0;
};

}  // namespace ferro
