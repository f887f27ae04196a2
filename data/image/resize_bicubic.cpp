#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/image/image_processor.h"

namespace ferro {
namespace {

/// Bits after the point of a coefficient; 8 bits of sample and 2 of overshoot fit beside them in 32.
constexpr int kPrecisionBits = 32 - 8 - 2;

/// Keys' cubic with a = -1/2 ("Cubic Convolution Interpolation for Digital Image Processing", 1981).
double cubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kA;
  return 0.0;
}

/// For every output place: first input place, how many, and their fixed-point weights.
struct Kernel {
  std::int32_t taps = 0;  ///< Room per output place.
  std::vector<std::int32_t> first, count, weights;
};

/// The same sums in the same order as Pillow's precompute_coeffs: the weights' last bit depends on it.
Kernel make_kernel(std::int32_t in_size, std::int32_t out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0), support = 2.0 * filter_scale,
               inverse = 1.0 / filter_scale;
  Kernel kernel;
  kernel.taps = static_cast<std::int32_t>(std::ceil(support)) * 2 + 1;
  std::vector<double> values(static_cast<std::size_t>(kernel.taps));
  for (std::int32_t place = 0; place < out_size; ++place) {
    const double centre = (place + 0.5) * scale;
    const std::int32_t first = std::max(static_cast<std::int32_t>(centre - support + 0.5), 0);
    const std::int32_t count = std::min(static_cast<std::int32_t>(centre + support + 0.5), in_size) - first;
    double total = 0.0;
    for (std::int32_t i = 0; i < count; ++i) {
      values[static_cast<std::size_t>(i)] = cubic((i + first - centre + 0.5) * inverse);
      total += values[static_cast<std::size_t>(i)];
    }
    kernel.first.push_back(first);
    kernel.count.push_back(count);
    for (std::int32_t i = 0; i < kernel.taps; ++i) {
      double value = i < count ? values[static_cast<std::size_t>(i)] : 0.0;
      if (total != 0.0) value /= total;
      const double fixed = value * (1 << kPrecisionBits);
      kernel.weights.push_back(static_cast<std::int32_t>(value < 0.0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return kernel;
}

std::uint8_t clip(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

Picture resize_width(const Picture& picture, std::int32_t width) {
  const Kernel kernel = make_kernel(picture.width, width);
  Picture out{picture.height, width, picture.channels, {}};
  const std::size_t channels = static_cast<std::size_t>(picture.channels);
  const std::size_t in_stride = static_cast<std::size_t>(picture.width) * channels;
  out.bytes.resize(static_cast<std::size_t>(out.height) * static_cast<std::size_t>(width) * channels);
  std::size_t at = 0;
  for (std::int32_t row = 0; row < picture.height; ++row) {
    const std::uint8_t* line = picture.bytes.data() + static_cast<std::size_t>(row) * in_stride;
    for (std::size_t place = 0; place < static_cast<std::size_t>(width); ++place) {
      const std::int32_t* weights = &kernel.weights[place * static_cast<std::size_t>(kernel.taps)];
      const std::uint8_t* from = line + static_cast<std::size_t>(kernel.first[place]) * channels;
      for (std::size_t channel = 0; channel < channels; ++channel) {
        std::int32_t sum = 1 << (kPrecisionBits - 1);
        for (std::size_t i = 0; i < static_cast<std::size_t>(kernel.count[place]); ++i)
          sum += from[i * channels + channel] * weights[i];
        out.bytes[at++] = clip(sum);
      }
    }
  }
  return out;
}

Picture resize_height(const Picture& picture, std::int32_t height) {
  const Kernel kernel = make_kernel(picture.height, height);
  Picture out{height, picture.width, picture.channels, {}};
  const std::size_t stride =
      static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.channels);
  out.bytes.resize(static_cast<std::size_t>(height) * stride);
  std::vector<std::int32_t> sums(stride);
  for (std::size_t place = 0; place < static_cast<std::size_t>(height); ++place) {
    std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
    const std::int32_t* weights = &kernel.weights[place * static_cast<std::size_t>(kernel.taps)];
    for (std::size_t i = 0; i < static_cast<std::size_t>(kernel.count[place]); ++i) {
      const std::uint8_t* line =
          picture.bytes.data() + (static_cast<std::size_t>(kernel.first[place]) + i) * stride;
      for (std::size_t x = 0; x < stride; ++x) sums[x] += line[x] * weights[i];
    }
    std::uint8_t* to = out.bytes.data() + place * stride;
    for (std::size_t x = 0; x < stride; ++x) to[x] = clip(sums[x]);
  }
  return out;
}

}  // namespace

Picture resize_bicubic(const Picture& picture, std::int32_t height, std::int32_t width) {
  FERRO_CHECK(picture.height > 0 && picture.width > 0 && height > 0 && width > 0, "{} x {} to {} x {}",
              picture.width, picture.height, width, height);
  const bool widths = width != picture.width, heights = height != picture.height;
  if (!widths && !heights) return picture;
  if (!heights) return resize_width(picture, width);
  if (!widths) return resize_height(picture, height);
  const std::int64_t lower_by = std::int64_t{picture.height} - height;
  const std::int64_t narrower_by = std::int64_t{picture.width} - width;
  const bool vertical_first = lower_by > 0 && lower_by > 2 * narrower_by;
  if (vertical_first) return resize_width(resize_height(picture, height), width);
  return resize_height(resize_width(picture, width), height);
}

}  // namespace ferro
