#pragma once

#include <cstdint>
#include <vector>

#include "data/faces/action_units.h"
#include "data/faces/face_identity.h"

namespace ferro {

/// How the drawn head is seen.
struct FaceView {
  double yaw = 0.0, pitch = 0.0, roll = 0.0;  ///< Radians.
  double shift_x = 0.0, shift_y = 0.0;        ///< Share of the side.
  double scale = 1.0;
  double gaze_x = 0.0, gaze_y = 0.0;               ///< -1 to 1.
  double light_angle = 0.0, light_strength = 0.0;  ///< Direction of the brighter side; 0 flat, 1 strong.
  double exposure = 1.0, contrast = 1.0;
  double noise = 0.0;     ///< Standard deviation in grey levels.
  double blur = 0.0;      ///< Standard deviation in output pixels.
  double backdrop = 0.5;  ///< Grey of the background, 0 to 1.
  std::uint64_t noise_key = 0;
};

/// 8-bit picture, row-major; 1 channel (grey) or 3 (red, green, blue).
struct FacePicture {
  std::int32_t size = 0, channels = 1;
  std::vector<std::uint8_t> bytes;
};

/// Draws a face. A pure function of its arguments: same bytes each time. REQUIRES 16 <= size <= 1024.
FacePicture render_face(const FaceIdentity& identity, const ActionUnits& units, const FaceView& view,
                        std::int32_t size, bool colour);

/// PNG bytes of a picture.
std::vector<std::uint8_t> encode_png(const FacePicture& picture);

}  // namespace ferro
