#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace ferro {

/// Intensities of facial action units by their FACS number, per side: 0 absent, 1 maximal (FACS letter E).
/// Sides are the person's own: `right` is drawn at the left of the picture.
struct ActionUnits {
  static constexpr int kCount = 32;
  std::array<double, kCount> left{}, right{};

  void set(int unit, double intensity) {
    left[static_cast<std::size_t>(unit)] = intensity;
    right[static_cast<std::size_t>(unit)] = intensity;
  }
  double on(bool right_side, int unit) const {
    return right_side ? right[static_cast<std::size_t>(unit)] : left[static_cast<std::size_t>(unit)];
  }
  double both(int unit) const {
    return 0.5 * (left[static_cast<std::size_t>(unit)] + right[static_cast<std::size_t>(unit)]);
  }
  double stronger(int unit) const {
    return std::max(left[static_cast<std::size_t>(unit)], right[static_cast<std::size_t>(unit)]);
  }
};

}  // namespace ferro
