#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <opencv2/core.hpp>

#include "data/faces/face_generator.h"

namespace ferro {

using FacePoints = std::vector<cv::Point2d>;

FaceColour mix_colours(const FaceColour& a, const FaceColour& b, double t);

/// A fold or shadow of the skin, `strength` 0 to 1.
FaceColour skin_fold(const FaceIdentity& identity, double strength);

/// Quadratic Bezier curve as a polyline of `pieces` + 1 points.
FacePoints curve(cv::Point2d from, cv::Point2d control, cv::Point2d to, int pieces = 8);

/// A closed smooth line (Catmull-Rom) through `corners`.
FacePoints smooth_outline(std::span<const cv::Point2d> corners, int pieces = 5);

FacePoints ellipse_points(cv::Point2d centre, double radius_x, double radius_y, int pieces = 20);

FacePoints mirrored(FacePoints points);

/// Appends `tail` in reverse order: two edges become an outline.
FacePoints closed_between(FacePoints edge, const FacePoints& tail);

/// An oversampled canvas on which points of the face's own coordinates are projected by the head's pose. One
/// thread.
class FacePainter {
 public:
  FacePainter(std::int32_t size, bool colour, const FaceView& view);

  void background(const FaceColour& colour);
  /// `depth`: how far the part stands out of the curved front of the head (nose tip .2); flat parts (outline,
  /// hair) pass kOutline and turn about the head's axis.
  void fill(const FacePoints& outline, const FaceColour& colour, double depth = 0.0);
  /// A line whose width runs from `width_from` to `width_to` (in face units).
  void stroke(const FacePoints& line, double width_from, double width_to, const FaceColour& colour,
              double depth = 0.0);
  cv::Mat& canvas() { return canvas_; }
  static constexpr double kOutline = -10.0;

 private:
  cv::Point2d project(cv::Point2d point, double depth) const;
  void fill_projected(const FaceColour& colour);
  cv::Mat canvas_;
  bool colour_;
  double cos_yaw_, sin_yaw_, cos_pitch_, sin_pitch_, cos_roll_, sin_roll_, unit_, centre_x_, centre_y_;
  std::vector<cv::Point> fixed_;
};

/// Canvas pixels per output pixel and side.
int oversampling(std::int32_t size);

}  // namespace ferro
