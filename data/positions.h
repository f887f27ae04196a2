#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/image_input.h"

namespace ferro {

/// What the text side must know of the vision side: special ids and merge. Filled from ModelConfig.
struct VisionTokens {
  std::int32_t image_token_id = -1, video_token_id = -1, vision_start_token_id = -1, vision_end_token_id = -1;
  std::int32_t spatial_merge_size = 2;
  double tokens_per_second = 2.0;
};

/// Which rule places video tokens (they agree on text and still images). The hub's code of the published
/// checkpoints is the default; transformers 5 truncates seconds and continues after max(h, w).
enum class PositionRule { kHub, kTransformers5 };

struct MropePositions {
  std::vector<std::int32_t> ids;  ///< [3, S] row-major: temporal, height, width.
  /// Of the first generated token, all three axes: where text goes on. By the rule of transformers 5 that can
  /// be below a video's temporal positions; by the hub's it is always max + 1.
  std::int32_t next = 0;
  std::int32_t delta = 0;  ///< max + 1 - S ("rope_deltas").
};

/// M-RoPE position ids of one unpadded sequence. `media` in the order of their placeholder runs. Source: the
/// Qwen2.5-VL model code (get_rope_index); golden: forward/rope_index.json.
/// Error{kData} when runs of placeholder tokens do not match the grids.
MropePositions mrope_positions(std::span<const std::int32_t> ids,
                               std::span<const std::shared_ptr<const ImageInput>> media,
                               const VisionTokens& tokens, PositionRule rule = PositionRule::kHub);

}  // namespace ferro
