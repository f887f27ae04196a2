#pragma once

#include "model/kernels/kernels.h"

namespace ferro::kernels {

/// Queries that one thread takes at a time, for one key/value head: some consecutive spans with one prefix,
/// or a part of one span.
struct AttentionTask {
  std::int64_t span_begin = 0, span_end = 0;
  std::int64_t query_begin = 0, query_end = 0;
};
struct AttentionTasks {
  const AttentionTask* tasks = nullptr;
  std::int64_t count = 0;
  std::int64_t max_prefix = 0, max_own = 0;  ///< Longest key ranges of any span.
};
/// Valid until the calling thread's next call. Spans without queries appear in no task.
AttentionTasks forward_tasks(const AttentionShape& shape);

/// Spans whose keys overlap, directly or through others, form a component: their key gradients are summed by
/// one thread, in order.
struct AttentionComponents {
  const std::int32_t* spans = nullptr;    ///< Span numbers, component after component, ascending within each.
  const std::int64_t* offsets = nullptr;  ///< [count + 1] into `spans`.
  std::int64_t count = 0;
  std::int64_t max_prefix = 0, max_own = 0;
};
/// Valid until the calling thread's next call.
AttentionComponents backward_components(const AttentionShape& shape);

}  // namespace ferro::kernels
