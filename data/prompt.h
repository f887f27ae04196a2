#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image_input.h"
#include "data/positions.h"

namespace ferro {

/// A question ready for the model: ids with placeholders expanded, pixels, positions. Immutable once built.
struct Prompt {
  std::vector<std::int32_t> ids;                          ///< [P]
  MropePositions positions;                               ///< ids [3, P]
  std::vector<std::shared_ptr<const ImageInput>> images;  ///< In order of their placeholder runs.
  std::vector<std::int32_t> image_token_begin;  ///< Index in `ids` of each image's first placeholder.
};

}  // namespace ferro
