#include "trainer/row_packing.h"

namespace ferro {

std::vector<PackedBatch> pack_rows(std::span<const Sample> samples, const RowPackingOptions& options,
                                   const VisionTokens& tokens) {
  std::vector<PackedBatch> batches;
  BatchPacker packer;
  for (const Sample& sample : samples) {
    const auto length = static_cast<std::int64_t>(sample.prompt->ids.size() + sample.answer.size());
    const bool full = (options.max_rows > 0 && packer.num_sequences() >= options.max_rows) ||
                      (options.max_tokens > 0 && packer.num_tokens() + length > options.max_tokens);
    if (full && packer.num_sequences() > 0) batches.push_back(packer.finish());
    packer.add_row(*sample.prompt, sample.answer, options.all_tokens, tokens);
  }
  if (packer.num_sequences() > 0) batches.push_back(packer.finish());
  return batches;
}

}  // namespace ferro
