#include "data/packing.h"

#include <limits>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

std::int32_t row_index(std::size_t rows) {
  FERRO_CHECK(rows <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
              "{} rows in one batch", rows);
  return static_cast<std::int32_t>(rows);
}

}  // namespace

void BatchPacker::append_prompt_rows(const Prompt& prompt) {
  const std::size_t length = prompt.ids.size();
  FERRO_CHECK(prompt.positions.ids.size() == 3 * length, "{} positions for {} prompt tokens",
              prompt.positions.ids.size(), length);
  FERRO_CHECK(prompt.images.size() == prompt.image_token_begin.size(), "{} images, {} places",
              prompt.images.size(), prompt.image_token_begin.size());
  const std::int32_t base = row_index(tokens_.size());
  tokens_.insert(tokens_.end(), prompt.ids.begin(), prompt.ids.end());
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto from = prompt.positions.ids.begin() + static_cast<std::ptrdiff_t>(axis * length);
    positions_[axis].insert(positions_[axis].end(), from, from + static_cast<std::ptrdiff_t>(length));
  }
  for (std::size_t i = 0; i < prompt.images.size(); ++i) {
    images_.push_back({prompt.images[i], base + prompt.image_token_begin[i]});
  }
}

void BatchPacker::append_answer_rows(std::span<const std::int32_t> answer, std::int32_t first_position) {
  tokens_.insert(tokens_.end(), answer.begin(), answer.end());
  for (auto& axis : positions_) {
    for (std::size_t i = 0; i < answer.size(); ++i)
      axis.push_back(first_position + static_cast<std::int32_t>(i));
  }
}

void BatchPacker::add_group(const Prompt& prompt, std::span<const std::vector<std::int32_t>> answers) {
  FERRO_CHECK(!prompt.ids.empty(), "an empty prompt predicts nothing");
  const std::int32_t prompt_begin = row_index(tokens_.size());
  append_prompt_rows(prompt);
  const std::int32_t prompt_end = row_index(tokens_.size());
  segments_.push_back({prompt_begin, prompt_end, 0, 0});
  for (const std::vector<std::int32_t>& answer : answers) {
    const std::int32_t sequence = num_sequences_++;
    if (answer.empty()) continue;
    const std::int32_t begin = row_index(tokens_.size());
    append_answer_rows(answer, prompt.positions.next);
    segments_.push_back({begin, row_index(tokens_.size()), prompt_begin, prompt_end});
    for (std::size_t i = 0; i < answer.size(); ++i) {
      const std::int32_t row = i == 0 ? prompt_end - 1 : begin + static_cast<std::int32_t>(i) - 1;
      targets_.push_back({row, answer[i], sequence});
    }
  }
}

void BatchPacker::add_row(const Prompt& prompt, std::span<const std::int32_t> answer, bool all_tokens,
                          const VisionTokens& tokens) {
  FERRO_CHECK(!prompt.ids.empty(), "an empty prompt predicts nothing");
  const std::size_t begin = tokens_.size();
  append_prompt_rows(prompt);
  append_answer_rows(answer, prompt.positions.next);
  segments_.push_back({row_index(begin), row_index(tokens_.size()), 0, 0});
  const std::int32_t sequence = num_sequences_++;
  const std::size_t first_target = all_tokens ? begin + 1 : begin + prompt.ids.size();
  for (std::size_t i = first_target; i < tokens_.size(); ++i) {
    const bool placeholder = tokens_[i] == tokens.image_token_id || tokens_[i] == tokens.video_token_id;
    if (all_tokens && placeholder) continue;
    targets_.push_back({row_index(i) - 1, tokens_[i], sequence});
  }
}

void BatchPacker::add_prompt(const Prompt& prompt) {
  const std::int32_t begin = row_index(tokens_.size());
  append_prompt_rows(prompt);
  segments_.push_back({begin, row_index(tokens_.size()), 0, 0});
}

PackedBatch BatchPacker::finish() {
  PackedBatch batch;
  batch.tokens = std::exchange(tokens_, {});
  batch.position_ids.reserve(3 * batch.tokens.size());
  for (auto& axis : positions_) {
    batch.position_ids.insert(batch.position_ids.end(), axis.begin(), axis.end());
    axis.clear();
  }
  batch.segments = std::exchange(segments_, {});
  batch.images = std::exchange(images_, {});
  batch.targets = std::exchange(targets_, {});
  batch.num_sequences = std::exchange(num_sequences_, 0);
  return batch;
}

}  // namespace ferro
