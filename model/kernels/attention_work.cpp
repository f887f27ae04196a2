#include "model/kernels/attention_work.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace ferro::kernels {
namespace {

constexpr std::int64_t kTaskQueries = 128;

bool same_prefix(const SpanView& a, const SpanView& b) {
  const bool none_a = a.prefix_begin >= a.prefix_end, none_b = b.prefix_begin >= b.prefix_end;
  return none_a || none_b ? none_a == none_b
                          : a.prefix_begin == b.prefix_begin && a.prefix_end == b.prefix_end;
}

template <class Work>
void measure(const AttentionShape& shape, Work& work) {
  for (std::int64_t i = 0; i < shape.num_spans; ++i) {
    const SpanView& s = shape.spans[i];
    work.max_prefix = std::max<std::int64_t>(work.max_prefix, s.prefix_end - s.prefix_begin);
    work.max_own = std::max<std::int64_t>(work.max_own, s.key_end - s.key_begin);
  }
}

/// The number of the set that holds i, with the path to it shortened.
std::int32_t root(std::vector<std::int32_t>& parents, std::int32_t i) {
  auto at = [&](std::int32_t n) -> std::int32_t& { return parents[static_cast<std::size_t>(n)]; };
  while (at(i) != i) i = at(i) = at(at(i));
  return i;
}

struct KeyRange {
  std::int32_t begin, end, span;
};

std::vector<KeyRange> key_ranges(const AttentionShape& shape) {
  std::vector<KeyRange> ranges;
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(shape.num_spans); ++i) {
    const SpanView& s = shape.spans[i];
    if (s.query_begin >= s.query_end) continue;
    if (s.prefix_begin < s.prefix_end) ranges.push_back({s.prefix_begin, s.prefix_end, i});
    if (s.key_begin < s.key_end) ranges.push_back({s.key_begin, s.key_end, i});
  }
  std::sort(ranges.begin(), ranges.end(), [](const KeyRange& a, const KeyRange& b) {
    return std::pair(a.begin, a.span) < std::pair(b.begin, b.span);
  });
  return ranges;
}

}  // namespace

AttentionTasks forward_tasks(const AttentionShape& shape) {
  static thread_local std::vector<AttentionTask> tasks;
  tasks.clear();
  AttentionTasks work;
  measure(shape, work);
  for (std::int64_t i = 0; i < shape.num_spans; ++i) {
    const SpanView& s = shape.spans[i];
    const std::int64_t queries = s.query_end - s.query_begin;
    if (queries <= 0) continue;
    if (!tasks.empty()) {
      AttentionTask& last = tasks.back();
      const bool fits = last.query_end - last.query_begin + queries <= kTaskQueries;
      if (fits && last.span_end == i && last.query_end == s.query_begin &&
          same_prefix(shape.spans[last.span_begin], s)) {
        last.span_end = i + 1;
        last.query_end = s.query_end;
        continue;
      }
    }
    for (std::int64_t begin = s.query_begin; begin < s.query_end; begin += kTaskQueries)
      tasks.push_back({i, i + 1, begin, std::min<std::int64_t>(s.query_end, begin + kTaskQueries)});
  }
  work.tasks = tasks.data();
  work.count = static_cast<std::int64_t>(tasks.size());
  return work;
}

AttentionComponents backward_components(const AttentionShape& shape) {
  static thread_local std::vector<std::int32_t> spans;
  static thread_local std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> parents(static_cast<std::size_t>(shape.num_spans));
  std::iota(parents.begin(), parents.end(), 0);
  auto join = [&](std::int32_t a, std::int32_t b) {
    a = root(parents, a);
    b = root(parents, b);
    parents[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
  };
  std::int32_t reach = -1, owner = -1;
  for (const KeyRange& range : key_ranges(shape)) {
    if (range.begin < reach) join(owner, range.span);
    owner = range.span;
    reach = std::max(reach, range.end);
  }
  std::vector<std::pair<std::int32_t, std::int32_t>> order;
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(shape.num_spans); ++i)
    if (shape.spans[i].query_begin < shape.spans[i].query_end) order.emplace_back(root(parents, i), i);
  std::sort(order.begin(), order.end());
  spans.clear();
  offsets.clear();
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || order[i].first != order[i - 1].first) offsets.push_back(static_cast<std::int64_t>(i));
    spans.push_back(order[i].second);
  }
  AttentionComponents work;
  work.count = static_cast<std::int64_t>(offsets.size());
  offsets.push_back(static_cast<std::int64_t>(spans.size()));
  work.spans = spans.data();
  work.offsets = offsets.data();
  measure(shape, work);
  return work;
}

}  // namespace ferro::kernels
