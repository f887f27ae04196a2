#include "data/faces/face_generator.h"

#include <algorithm>
#include <cmath>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/keyed_random.h"
#include "data/faces/face_features.h"

namespace ferro {
namespace {

constexpr std::uint64_t kNoiseField = 2;

void draw_all(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units,
              const FaceView& view) {
  const double grey = 255.0 * view.backdrop;
  painter.background({grey, grey, grey});
  draw_hair_behind(painter, identity);
  draw_head(painter, identity, units);
  draw_forehead(painter, identity, units);
  draw_beard(painter, identity, units);
  draw_nose(painter, identity, units);
  draw_mouth(painter, identity, units);
  for (const bool right : {true, false}) {
    draw_eye(painter, identity, units, view, right);
    draw_brow(painter, identity, units, right);
  }
  draw_hair_in_front(painter, identity);
  draw_glasses(painter, identity);
}

/// Sum of four uniform bytes of one draw: near enough to normal, and cheap.
class NoiseSource {
 public:
  explicit NoiseSource(std::uint64_t key) : random_(key, RandomPurpose::kFaces, {kNoiseField}) {}
  float next() {
    const std::uint32_t bits = random_.next_u32();
    const std::uint32_t sum = (bits & 255U) + ((bits >> 8) & 255U) + ((bits >> 16) & 255U) + (bits >> 24);
    return (static_cast<float>(sum) - 510.0F) * (1.0F / 147.8F);
  }

 private:
  KeyedRandom random_;
};

std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F) + 0.5F);
}

/// Light from one side, exposure and contrast, then sensor noise.
void expose(const cv::Mat& drawn, const FaceView& view, FacePicture& picture) {
  NoiseSource source(view.noise_key);
  const float light_x = static_cast<float>(view.light_strength * std::cos(view.light_angle));
  const float light_y = static_cast<float>(view.light_strength * std::sin(view.light_angle));
  const float exposure = static_cast<float>(view.exposure), contrast = static_cast<float>(view.contrast);
  const float sigma = static_cast<float>(view.noise);
  const float half = 0.5F * static_cast<float>(picture.size);
  std::size_t at = 0;
  for (int row = 0; row < drawn.rows; ++row) {
    const std::uint8_t* line = drawn.ptr<std::uint8_t>(row);
    for (int column = 0; column < drawn.cols; ++column) {
      const float x = (static_cast<float>(column) + 0.5F - half) / half,
                  y = (static_cast<float>(row) + 0.5F - half) / half;
      const float gain = exposure * (1.0F + light_x * x + light_y * y);
      const float grain = sigma > 0.0F ? sigma * source.next() : 0.0F;
      for (int channel = 0; channel < picture.channels; ++channel) {
        const int from = column * picture.channels + (picture.channels - 1 - channel);
        const float value = static_cast<float>(line[from]) * gain;
        picture.bytes[at++] = to_byte(128.0F + contrast * (value - 128.0F) + grain);
      }
    }
  }
}

}  // namespace

FacePicture render_face(const FaceIdentity& identity, const ActionUnits& units, const FaceView& view,
                        std::int32_t size, bool colour) {
  if (size < 16 || size > 1024)
    fail(ErrorCode::kUsage, "a face is drawn at 16 to 1024 pixels a side, not {}", size);
  FacePainter painter(size, colour, view);
  draw_all(painter, identity, units, view);
  cv::Mat small;
  cv::resize(painter.canvas(), small, cv::Size(size, size), 0, 0, cv::INTER_AREA);
  if (view.blur > 0.0) cv::GaussianBlur(small, small, cv::Size(), view.blur, view.blur, cv::BORDER_REPLICATE);
  FacePicture picture;
  picture.size = size;
  picture.channels = colour ? 3 : 1;
  picture.bytes.resize(static_cast<std::size_t>(size) * static_cast<std::size_t>(size) *
                       static_cast<std::size_t>(picture.channels));
  expose(small, view, picture);
  return picture;
}

std::vector<std::uint8_t> encode_png(const FacePicture& picture) {
  cv::Mat pixels(picture.size, picture.size, picture.channels == 3 ? CV_8UC3 : CV_8UC1,
                 const_cast<std::uint8_t*>(picture.bytes.data()));
  cv::Mat swapped;
  if (picture.channels == 3) {
    cv::cvtColor(pixels, swapped, cv::COLOR_RGB2BGR);
    pixels = swapped;
  }
  std::vector<std::uint8_t> png;
  const std::vector<int> settings{cv::IMWRITE_PNG_COMPRESSION, 1};
  if (!cv::imencode(".png", pixels, png, settings))
    fail(ErrorCode::kInternal, "the PNG encoder refused a {0}x{0} picture", picture.size);
  return png;
}

}  // namespace ferro
