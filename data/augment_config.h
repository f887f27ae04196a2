#pragma once

#include <cstdint>

#include "core/config_visitor.h"

namespace ferro {

/// Augmentation of small faces in training: horizontal flip, shift, brightness and contrast.
struct AugmentConfig {
  bool enabled = false;
  double flip_probability = 0.5;
  double max_shift = 0.08;       ///< Share of the side.
  double max_brightness = 0.15;  ///< Share of 255, added.
  double max_contrast = 0.15;    ///< Factor 1 +- this.
  template <class Visitor>
  void visit(Visitor& v) {
    v.field("enabled", enabled, "Augment training images (never those of evaluation).");
    v.field("flip_probability", flip_probability, {.min = 0.0, .max = 1.0}, "Chance of a horizontal flip.");
    v.field("max_shift", max_shift, {.min = 0.0, .max = 0.5}, "Largest shift as a share of the side.");
    v.field("max_brightness", max_brightness, {.min = 0.0, .max = 1.0},
            "Largest brightness change as a share of full scale.");
    v.field("max_contrast", max_contrast, {.min = 0.0, .max = 1.0},
            "Contrast factor is drawn from 1 +- this.");
  }
};

/// What an augmentation is a pure function of, beside the picture.
struct AugmentKey {
  std::uint64_t seed = 0;
  std::int64_t sample = 0, epoch = 0;
};

}  // namespace ferro
