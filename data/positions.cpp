#include "data/positions.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace ferro {
namespace {

constexpr std::int32_t kMaxPosition = std::numeric_limits<std::int32_t>::max() / 2;

class Walker {
 public:
  Walker(std::span<const std::int32_t> ids, const VisionTokens& tokens, PositionRule rule)
      : ids_(ids), tokens_(tokens), rule_(rule) {
    out_.ids.resize(3 * ids.size());
  }

  void text_token() {
    for (int axis = 0; axis < 3; ++axis) put(axis, at_, next_);
    ++at_;
    advance_to(next_ + 1);
  }

  void medium(const ImageInput& medium) {
    const std::int64_t merge = tokens_.spatial_merge_size;
    const std::int64_t height = medium.grid.h / merge, width = medium.grid.w / merge;
    check_run(medium, height * width * medium.grid.t);
    const std::int32_t start = next_;
    for (std::int64_t t = 0; t < medium.grid.t; ++t) {
      const std::int32_t time = start + time_offset(medium, t);
      for (std::int64_t h = 0; h < height; ++h) {
        for (std::int64_t w = 0; w < width; ++w, ++at_) {
          put(0, at_, time);
          put(1, at_, start + static_cast<std::int32_t>(h));
          put(2, at_, start + static_cast<std::int32_t>(w));
        }
      }
    }
    const std::int32_t spatial_end = start + static_cast<std::int32_t>(std::max(height, width));
    advance_to(rule_ == PositionRule::kHub ? highest_ + 1 : spatial_end);
  }

  bool done() const { return at_ == ids_.size(); }
  std::int32_t id() const { return ids_[at_]; }

  MropePositions finish() {
    out_.next = next_;
    out_.delta = highest_ + 1 - static_cast<std::int32_t>(ids_.size());
    return std::move(out_);
  }

 private:
  // LibTorch multiplies an integer tensor by a Python float in float32 and truncates; so does this.
  std::int32_t time_offset(const ImageInput& medium, std::int64_t t) const {
    if (!medium.video) return 0;
    double seconds = 0.0;
    if (rule_ == PositionRule::kHub) {
      seconds = static_cast<double>(static_cast<float>(t) * static_cast<float>(medium.second_per_grid) *
                                    static_cast<float>(tokens_.tokens_per_second));
    } else {
      seconds = static_cast<double>(t) * std::trunc(medium.second_per_grid) * tokens_.tokens_per_second;
    }
    if (!(seconds >= 0.0 && seconds < kMaxPosition)) {
      fail(ErrorCode::kData, "video time position {} is out of range (second_per_grid {}, frame pair {})",
           seconds, medium.second_per_grid, t);
    }
    return static_cast<std::int32_t>(seconds);
  }

  void check_run(const ImageInput& medium, std::int64_t expected) const {
    const std::int64_t merge = tokens_.spatial_merge_size;
    if (medium.grid.t <= 0 || medium.grid.h <= 0 || medium.grid.w <= 0 || medium.grid.h % merge != 0 ||
        medium.grid.w % merge != 0) {
      fail(ErrorCode::kData, "grid {}x{}x{} is not a positive multiple of the merge size {}", medium.grid.t,
           medium.grid.h, medium.grid.w, merge);
    }
    const std::int32_t placeholder = medium.video ? tokens_.video_token_id : tokens_.image_token_id;
    std::int64_t run = 0;
    for (std::size_t i = at_; i < ids_.size() && ids_[i] == placeholder && run < expected; ++i) ++run;
    if (run != expected) {
      fail(ErrorCode::kData, "{} placeholder tokens at index {} where the {} grid {}x{}x{} needs {}", run,
           at_, medium.video ? "video" : "image", medium.grid.t, medium.grid.h, medium.grid.w, expected);
    }
  }

  void put(int axis, std::size_t index, std::int32_t position) {
    out_.ids[static_cast<std::size_t>(axis) * ids_.size() + index] = position;
    highest_ = std::max(highest_, position);
  }

  void advance_to(std::int32_t position) {
    if (position < 0 || highest_ > kMaxPosition) fail(ErrorCode::kData, "positions exceed {}", kMaxPosition);
    next_ = position;
  }

  std::span<const std::int32_t> ids_;
  const VisionTokens& tokens_;
  PositionRule rule_;
  MropePositions out_;
  std::size_t at_ = 0;
  std::int32_t next_ = 0;
  std::int32_t highest_ = -1;
};

}  // namespace

MropePositions mrope_positions(std::span<const std::int32_t> ids,
                               std::span<const std::shared_ptr<const ImageInput>> media,
                               const VisionTokens& tokens, PositionRule rule) {
  FERRO_CHECK(tokens.spatial_merge_size > 0, "spatial_merge_size {}", tokens.spatial_merge_size);
  if (ids.size() > static_cast<std::size_t>(kMaxPosition)) {
    fail(ErrorCode::kData, "a sequence of {} tokens is too long", ids.size());
  }
  Walker walker(ids, tokens, rule);
  std::size_t used = 0;
  while (!walker.done()) {
    const bool image = walker.id() == tokens.image_token_id, video = walker.id() == tokens.video_token_id;
    if (!image && !video) {
      walker.text_token();
      continue;
    }
    if (used == media.size()) {
      fail(ErrorCode::kData, "more runs of placeholder tokens than the {} images and videos given",
           media.size());
    }
    walker.medium(*media[used++]);
  }
  if (used != media.size()) {
    fail(ErrorCode::kData, "{} images and videos given, but only {} runs of placeholder tokens", media.size(),
         used);
  }
  return walker.finish();
}

}  // namespace ferro
