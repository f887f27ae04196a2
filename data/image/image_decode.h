#pragma once

#include "data/image/image_processor.h"

namespace ferro {

/// Turns and mirrors a stored picture by its EXIF orientation (1 to 8) into an upright one.
Picture orient_picture(Picture picture, int orientation);

}  // namespace ferro
