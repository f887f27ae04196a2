#include "data/bpe_merger.h"

#include <array>
#include <bit>
#include <limits>
#include <queue>
#include <tuple>

#include "core/error.h"

namespace ferro {
namespace {

constexpr std::size_t kShort = 64;
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

BpeMerger::BpeMerger(std::size_t expected_merges) : entries_(std::bit_ceil(2 * expected_merges + 2)) {}

std::size_t BpeMerger::slot_of(std::uint64_t key) const {
  const std::size_t mask = entries_.size() - 1;
  std::size_t slot = static_cast<std::size_t>((key * 0x9E3779B97F4A7C15ULL) >> 32) & mask;
  while (entries_[slot].key != kEmpty && entries_[slot].key != key) slot = (slot + 1) & mask;
  return slot;
}

void BpeMerger::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  FERRO_CHECK(2 * (std::size_t{next_rank_} + 1) <= entries_.size(), "more merges than the {} expected",
              next_rank_);
  const std::uint64_t key = key_of(left, right);
  entries_[slot_of(key)] = {key, next_rank_++, merged};
}

const BpeMerger::Entry* BpeMerger::find(std::int32_t left, std::int32_t right) const {
  const Entry& entry = entries_[slot_of(key_of(left, right))];
  return entry.key == kEmpty ? nullptr : &entry;
}

void BpeMerger::merge(std::vector<std::int32_t>& ids) const {
  if (ids.size() < 2) return;
  if (ids.size() <= kShort) {
    merge_short(ids);
  } else {
    merge_long(ids);
  }
}

void BpeMerger::merge_short(std::vector<std::int32_t>& ids) const {
  std::array<std::uint32_t, kShort> ranks{};
  std::array<std::int32_t, kShort> merged{};
  const auto look_up = [&](std::size_t i) {
    const Entry* entry = find(ids[i], ids[i + 1]);
    ranks[i] = entry == nullptr ? kNoRank : entry->rank;
    merged[i] = entry == nullptr ? 0 : entry->merged;
  };
  std::size_t count = ids.size();
  for (std::size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    ids[best] = merged[best];
    for (std::size_t i = best + 1; i + 1 < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  ids.resize(count);
}

// A linked list of symbols and a heap of candidate pairs: n log n, for texts without a place to split.
void BpeMerger::merge_long(std::vector<std::int32_t>& ids) const {
  FERRO_CHECK(ids.size() < kNoRank, "a piece of {} bytes", ids.size());
  struct Symbol {
    std::int32_t id;
    std::int64_t previous, next;  ///< -1: none.
  };
  using Candidate = std::tuple<std::uint32_t, std::int64_t, std::int32_t>;  // rank, position, merged id
  std::vector<Symbol> symbols(ids.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto at = [&](std::int64_t i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto propose = [&](std::int64_t left) {
    if (left < 0 || at(left).next < 0) return;
    const Entry* entry = find(at(left).id, at(at(left).next).id);
    if (entry != nullptr) queue.emplace(entry->rank, left, entry->merged);
  };
  const auto size = static_cast<std::int64_t>(ids.size());
  for (std::int64_t i = 0; i < size; ++i) {
    at(i) = {ids[static_cast<std::size_t>(i)], i - 1, i + 1 < size ? i + 1 : -1};
  }
  for (std::int64_t i = 0; i < size; ++i) propose(i);
  while (!queue.empty()) {
    const auto [rank, left, merged] = queue.top();
    queue.pop();
    Symbol& symbol = at(left);
    if (symbol.id < 0 || symbol.next < 0) continue;
    const Entry* entry = find(symbol.id, at(symbol.next).id);
    if (entry == nullptr || entry->rank != rank) continue;
    Symbol& swallowed = at(symbol.next);
    symbol.id = merged;
    symbol.next = swallowed.next;
    swallowed.id = -1;
    if (symbol.next >= 0) at(symbol.next).previous = left;
    propose(symbol.previous);
    propose(left);
  }
  ids.clear();
  for (std::int64_t i = 0; i >= 0; i = at(i).next) ids.push_back(at(i).id);
}

}  // namespace ferro
