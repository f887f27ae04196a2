#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "data/prompt.h"

namespace ferro {

/// Rows [begin, end) attend causally to themselves and, before that, to all of [prefix_begin, prefix_end).
struct Segment {
  std::int32_t begin = 0, end = 0;
  std::int32_t prefix_begin = 0, prefix_end = 0;
};

/// "The hidden state of packed row `row` predicts `token`." `sequence` numbers the answers of the batch;
/// targets of one sequence are consecutive and in order. A prompt's last row predicts the first token of all
/// of its answers.
struct Target {
  std::int32_t row = 0;
  std::int32_t token = 0;
  std::int32_t sequence = 0;
};

struct PackedImage {
  std::shared_ptr<const ImageInput> image;
  std::int32_t token_begin = 0;  ///< Packed row of its first placeholder.
};

/// The only batch type: SFT rows, GRPO groups and rollout prefill. No padding anywhere.
struct PackedBatch {
  std::vector<std::int32_t> tokens;        ///< [T]
  std::vector<std::int32_t> position_ids;  ///< [3, T] row-major.
  std::vector<Segment> segments;           ///< In row order, covering [0, T).
  std::vector<PackedImage> images;
  std::vector<Target> targets;
  std::int32_t num_sequences = 0;
};

/// Appends prompts and answers to a batch under construction.
class BatchPacker {
 public:
  /// A prompt once, then its answers, each a segment with the prompt as prefix; every answer token becomes a
  /// target. Answers' positions continue the prompt's. Empty answers keep their sequence number and have no
  /// targets.
  void add_group(const Prompt& prompt, std::span<const std::vector<std::int32_t>> answers);

  /// One sequence without prefix: prompt and answer in one segment. Targets: the answer's tokens, or
  /// (`all_tokens`) every token after the first that is not an image or video placeholder.
  void add_row(const Prompt& prompt, std::span<const std::int32_t> answer, bool all_tokens,
               const VisionTokens& tokens);

  /// A prompt alone, no targets: prefill.
  void add_prompt(const Prompt& prompt);

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::int32_t num_sequences() const { return num_sequences_; }
  PackedBatch finish();  ///< Moves the batch out and starts an empty one.

 private:
  void append_prompt_rows(const Prompt& prompt);
  void append_answer_rows(std::span<const std::int32_t> answer, std::int32_t first_position);
  std::vector<std::int32_t> tokens_;
  std::vector<std::int32_t> positions_[3];
  std::vector<Segment> segments_;
  std::vector<PackedImage> images_;
  std::vector<Target> targets_;
  std::int32_t num_sequences_ = 0;
};

}  // namespace ferro
