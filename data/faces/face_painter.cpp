#include "data/faces/face_painter.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <opencv2/imgproc.hpp>

namespace ferro {
namespace {

constexpr int kFixedBits = 4;
constexpr double kHeadDepth = 0.6;
constexpr double kFaceShare = 0.49;  // Half the face's height as a share of the picture's side.

cv::Scalar canvas_colour(const FaceColour& colour, bool keep) {
  if (keep) return {colour[2], colour[1], colour[0]};
  return cv::Scalar::all(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]);
}

}  // namespace

FaceColour mix_colours(const FaceColour& a, const FaceColour& b, double t) {
  return {a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t};
}

FaceColour skin_fold(const FaceIdentity& identity, double strength) {
  const FaceColour& skin = identity.skin;
  return mix_colours(skin, {skin[0] * 0.35, skin[1] * 0.28, skin[2] * 0.26}, std::clamp(strength, 0.0, 1.0));
}

FacePoints curve(cv::Point2d from, cv::Point2d control, cv::Point2d to, int pieces) {
  FacePoints points;
  points.reserve(static_cast<std::size_t>(pieces) + 1);
  for (int i = 0; i <= pieces; ++i) {
    const double t = static_cast<double>(i) / pieces, s = 1.0 - t;
    points.push_back(s * s * from + 2.0 * s * t * control + t * t * to);
  }
  return points;
}

FacePoints smooth_outline(std::span<const cv::Point2d> corners, int pieces) {
  FacePoints points;
  const std::size_t count = corners.size();
  points.reserve(count * static_cast<std::size_t>(pieces));
  for (std::size_t i = 0; i < count; ++i) {
    const cv::Point2d a = corners[(i + count - 1) % count], b = corners[i], c = corners[(i + 1) % count],
                      d = corners[(i + 2) % count];
    for (int k = 0; k < pieces; ++k) {
      const double t = static_cast<double>(k) / pieces;
      points.push_back(0.5 * (2.0 * b + t * (c - a) + t * t * (2.0 * a - 5.0 * b + 4.0 * c - d) +
                              t * t * t * (3.0 * b - 3.0 * c + d - a)));
    }
  }
  return points;
}

FacePoints ellipse_points(cv::Point2d centre, double radius_x, double radius_y, int pieces) {
  FacePoints points;
  points.reserve(static_cast<std::size_t>(pieces));
  for (int i = 0; i < pieces; ++i) {
    const double angle = 2.0 * std::numbers::pi * i / pieces;
    points.emplace_back(centre.x + radius_x * std::cos(angle), centre.y + radius_y * std::sin(angle));
  }
  return points;
}

FacePoints mirrored(FacePoints points) {
  for (cv::Point2d& point : points) point.x = -point.x;
  return points;
}

FacePoints closed_between(FacePoints edge, const FacePoints& tail) {
  edge.insert(edge.end(), tail.rbegin(), tail.rend());
  return edge;
}

int oversampling(std::int32_t size) {
  return size <= 96 ? 3 : 2;
}

FacePainter::FacePainter(std::int32_t size, bool colour, const FaceView& view) : colour_(colour) {
  const int side = size * oversampling(size);
  canvas_.create(side, side, colour ? CV_8UC3 : CV_8UC1);
  cos_yaw_ = std::cos(view.yaw), sin_yaw_ = std::sin(view.yaw);
  cos_pitch_ = std::cos(view.pitch), sin_pitch_ = std::sin(view.pitch);
  cos_roll_ = std::cos(view.roll), sin_roll_ = std::sin(view.roll);
  unit_ = kFaceShare * view.scale * side;
  centre_x_ = (0.5 + view.shift_x) * side;
  centre_y_ = (0.5 + view.shift_y) * side;
}

void FacePainter::background(const FaceColour& colour) {
  canvas_.setTo(canvas_colour(colour, colour_));
}

cv::Point2d FacePainter::project(cv::Point2d point, double depth) const {
  double z = 0.0;
  if (depth > kOutline) {
    const double inside = 1.0 - (point.x * point.x) / 0.9 - (point.y * point.y) / 1.8;
    z = kHeadDepth * std::sqrt(std::max(inside, 0.0)) + depth;
  }
  const double x = point.x * cos_yaw_ + z * sin_yaw_;
  const double y = point.y * cos_pitch_ + z * sin_pitch_;
  return {centre_x_ + unit_ * (x * cos_roll_ - y * sin_roll_),
          centre_y_ + unit_ * (x * sin_roll_ + y * cos_roll_)};
}

void FacePainter::fill(const FacePoints& outline, const FaceColour& colour, double depth) {
  fixed_.clear();
  for (const cv::Point2d& point : outline) {
    const cv::Point2d at = project(point, depth) * static_cast<double>(1 << kFixedBits);
    fixed_.emplace_back(static_cast<int>(std::lround(at.x)), static_cast<int>(std::lround(at.y)));
  }
  fill_projected(colour);
}

void FacePainter::fill_projected(const FaceColour& colour) {
  if (fixed_.size() < 3) return;
  const cv::Point* points = fixed_.data();
  const int count = static_cast<int>(fixed_.size());
  cv::fillPoly(canvas_, &points, &count, 1, canvas_colour(colour, colour_), cv::LINE_AA, kFixedBits);
}

void FacePainter::stroke(const FacePoints& line, double width_from, double width_to, const FaceColour& colour,
                         double depth) {
  const std::size_t count = line.size();
  FacePoints one_side, other_side;
  for (std::size_t i = 0; i < count; ++i) {
    const cv::Point2d along = line[std::min(i + 1, count - 1)] - line[i > 0 ? i - 1 : 0];
    const double length = std::max(std::hypot(along.x, along.y), 1e-9);
    const double t = count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0.0;
    const double half = 0.5 * (width_from + (width_to - width_from) * t);
    const cv::Point2d normal{-along.y / length * half, along.x / length * half};
    one_side.push_back(line[i] + normal);
    other_side.push_back(line[i] - normal);
  }
  fill(closed_between(std::move(one_side), other_side), colour, depth);
}

}  // namespace ferro
