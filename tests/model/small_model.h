#pragma once

#include "tests/tiny_model.h"

namespace ferro::testing {

/// A model of a few thousand parameters whose widths are no multiples of a panel.
inline ModelConfig small_config(bool tied) {
  return tiny_config(
      {.vision_width = 24,
       .vision_inner = 36,
       .width = 40,
       .inner = 50,
       .layers = 2,
       .mrope_section = {1, 2, 2},
       .vocabulary = 67,
       .tied = tied},
      {.vision_start = 62, .vision_end = 63, .image = 60, .video = 61, .begin_and_pad = 64, .end = 65});
}

inline Model small_model(bool tied, bool panels, std::uint64_t seed = 7) {
  return random_model(small_config(tied), seed, false, panels);
}

}  // namespace ferro::testing
