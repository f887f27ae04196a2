#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing.h"
#include "trainer/sample_stream.h"

namespace ferro {

struct RowPackingOptions {
  bool all_tokens = false;      ///< Targets: every token but placeholders, or the answer's.
  std::int64_t max_rows = 0;    ///< Rows of a micro-batch; 0: any number.
  std::int64_t max_tokens = 0;  ///< Packed tokens of a micro-batch, a longer row alone; 0: any number.
};

/// Rows in order, as many to a micro-batch as fit; each attends to itself only. A pure function of its
/// arguments.
std::vector<PackedBatch> pack_rows(std::span<const Sample> samples, const RowPackingOptions& options,
                                   const VisionTokens& tokens);

}  // namespace ferro
