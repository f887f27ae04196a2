#pragma once

#include <array>
#include <cstdint>

namespace ferro {

/// 0 to 255, red, green, blue.
using FaceColour = std::array<double, 3>;

enum class HairStyle { kBald, kShort, kFringe, kParted, kLong };

/// What makes a drawn person this person. Lengths are in units of half the face's height; y points down; the
/// origin lies between eyes and nose. Ages, sexes and peoples are not modelled: every feature varies on its
/// own.
struct FaceIdentity {
  double head_width = 0.76, jaw_width = 0.58, chin_length = 1.0, crown_height = 1.05, ear_size = 0.16;
  double eye_spacing = 0.36, eye_height = -0.16, eye_width = 0.16, eye_opening = 0.075, eye_tilt = 0.0,
         iris_size = 0.075;
  double brow_height = -0.36, brow_length = 0.19, brow_thickness = 0.05, brow_arch = 0.04, brow_tilt = 0.0;
  double nose_length = 0.24, nose_width = 0.12, nose_bridge = 0.05;
  double mouth_height = 0.53, mouth_width = 0.27, upper_lip = 0.055, lower_lip = 0.075, mouth_rest = 0.0;
  FaceColour skin{}, hair{}, iris{}, lip{};
  HairStyle hair_style = HairStyle::kShort;
  double hair_line = -0.72, fringe_side = 1.0;
  double beard = 0.0;  ///< 0 none, else how dense.
  bool moustache = false;
  double glasses = 0.0;   ///< 0 none, else half the height of a glass.
  double wrinkles = 0.5;  ///< How strongly skin folds show.
};

/// A pure function of (seed, identity).
FaceIdentity make_identity(std::uint64_t seed, std::int64_t identity);

}  // namespace ferro
