#include "data/faces/face_features.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace ferro {
namespace {

constexpr FaceColour kBlack{12, 10, 10}, kWhite{236, 234, 230};

FaceColour lit(const FaceIdentity& face, double amount) {
  return mix_colours(face.skin, {255, 245, 235}, amount);
}

double jaw_drop(const ActionUnits& units) {
  return 0.20 * units.both(26);
}

double side_sign(bool right_side) {
  return right_side ? -1.0 : 1.0;
}

FacePoints head_outline(const FaceIdentity& face, const ActionUnits& units) {
  const double w = face.head_width, jaw = face.jaw_width, chin = face.chin_length + 0.6 * jaw_drop(units);
  const double cheek = w * (1.0 + 0.03 * units.both(12) - 0.02 * units.both(26));
  const std::array<cv::Point2d, 12> corners{{{0.0, -face.crown_height},
                                             {0.55 * w, -0.93 * face.crown_height},
                                             {0.93 * w, -0.55},
                                             {w, -0.08},
                                             {cheek, 0.25},
                                             {jaw, 0.66 * chin},
                                             {0.26, 0.96 * chin},
                                             {-0.26, 0.96 * chin},
                                             {-jaw, 0.66 * chin},
                                             {-cheek, 0.25},
                                             {-w, -0.08},
                                             {-0.93 * w, -0.55}}};
  // The crown's point has no left neighbour at its own height: without it the top would lean.
  std::array<cv::Point2d, 13> closed{};
  std::copy(corners.begin(), corners.end(), closed.begin());
  closed[12] = {-0.55 * w, -0.93 * face.crown_height};
  return smooth_outline(closed, 4);
}

struct EyeShape {
  cv::Point2d inner, outer, top, bottom;
  double upper = 0.0, lower = 0.0;
};

EyeShape eye_shape(const FaceIdentity& face, const ActionUnits& units, bool right) {
  const double raise = units.on(right, 5), tight = units.on(right, 7), cheek = units.on(right, 6);
  const double droop =
      0.35 * units.on(right, 15) * units.on(right, 1) + 0.25 * units.on(right, 4) + 0.2 * units.on(right, 9);
  EyeShape eye;
  eye.upper =
      face.eye_opening * std::clamp(1.0 + 0.75 * raise - 0.38 * tight - 0.25 * cheek - droop, 0.25, 2.0);
  eye.lower =
      0.6 * face.eye_opening * std::clamp(1.0 + 0.25 * raise - 0.9 * tight - 0.75 * cheek, -0.25, 1.5);
  const double sign = side_sign(right), y = face.eye_height;
  eye.inner = {sign * (face.eye_spacing - face.eye_width), y + 0.012};
  eye.outer = {sign * (face.eye_spacing + face.eye_width), y + face.eye_tilt};
  const double x = sign * face.eye_spacing;
  eye.top = {x, y - 2.0 * eye.upper};
  eye.bottom = {x, y + 2.0 * eye.lower};
  return eye;
}

}  // namespace

void draw_hair_behind(FacePainter& painter, const FaceIdentity& face) {
  if (face.hair_style == HairStyle::kBald) return;
  const double w = face.head_width + 0.10, top = -face.crown_height - 0.14;
  const double down = face.hair_style == HairStyle::kLong ? 0.95 : -0.05;
  const std::array<cv::Point2d, 8> corners{{{0.0, top},
                                            {0.7 * w, -0.85},
                                            {1.06 * w, -0.3},
                                            {1.05 * w, down},
                                            {0.7 * w, down + 0.12},
                                            {-0.7 * w, down + 0.12},
                                            {-1.05 * w, down},
                                            {-1.06 * w, -0.3}}};
  std::array<cv::Point2d, 9> closed{};
  std::copy(corners.begin(), corners.end(), closed.begin());
  closed[8] = {-0.7 * w, -0.85};
  painter.fill(smooth_outline(closed, 4), face.hair, FacePainter::kOutline);
}

void draw_head(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units) {
  const FaceColour neck = skin_fold(face, 0.30), shirt = mix_colours(face.hair, {120, 126, 140}, 0.6);
  const double n = 0.62 * face.jaw_width + 0.08;
  painter.fill({{-n, 0.6}, {n, 0.6}, {n + 0.05, 1.5}, {-n - 0.05, 1.5}}, neck, FacePainter::kOutline);
  painter.fill({{-n, 1.18}, {0.0, 1.36}, {n, 1.18}, {1.6, 1.5}, {1.6, 2.0}, {-1.6, 2.0}, {-1.6, 1.5}}, shirt,
               FacePainter::kOutline);
  for (const double sign : {-1.0, 1.0}) {
    const cv::Point2d ear{sign * (face.head_width + 0.02), 0.02};
    painter.fill(ellipse_points(ear, 0.09, face.ear_size), skin_fold(face, 0.12), FacePainter::kOutline);
  }
  const FacePoints outline = head_outline(face, units);
  painter.fill(outline, skin_fold(face, 0.16), FacePainter::kOutline);
  FacePoints front = outline;
  for (cv::Point2d& point : front) point = {0.93 * point.x, 0.97 * point.y};
  painter.fill(front, face.skin, FacePainter::kOutline);
}

void draw_forehead(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units) {
  const double inner = units.both(1), outer = units.both(2), lower = units.both(4);
  const double lines = std::min(inner, 0.3 + outer) * face.wrinkles;
  if (lines > 0.1) {
    const double reach = 0.18 + 0.22 * outer;
    for (int i = 0; i < 2; ++i) {
      const double y = face.brow_height - 0.15 - 0.10 * i;
      painter.stroke(curve({-reach, y + 0.02}, {0.0, y - 0.03}, {reach, y + 0.02}), 0.022, 0.022,
                     skin_fold(face, 0.75 * lines));
    }
  }
  if (lower > 0.08) {
    const FaceColour furrow = skin_fold(face, lower * (0.35 + 0.6 * face.wrinkles));
    for (const double sign : {-1.0, 1.0}) {
      painter.stroke(curve({sign * 0.035, face.brow_height - 0.03}, {sign * 0.05, face.brow_height + 0.06},
                           {sign * 0.045, face.brow_height + 0.13}),
                     0.018, 0.032, furrow);
    }
  }
}

void draw_eye(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units, const FaceView& view,
              bool right) {
  const EyeShape eye = eye_shape(face, units, right);
  const double sign = side_sign(right);
  const FacePoints upper = curve(eye.inner, eye.top, eye.outer, 10),
                   lower = curve(eye.inner, eye.bottom, eye.outer, 10);
  painter.fill(
      ellipse_points({sign * face.eye_spacing, face.eye_height - 0.01}, face.eye_width * 1.25, 0.125),
      skin_fold(face, 0.13));
  const double gap = (upper[5].y + 0.02) - (lower[5].y);
  if (gap < 0.0) painter.fill(closed_between(upper, lower), kWhite);

  const double radius = face.iris_size;
  const cv::Point2d centre{sign * face.eye_spacing + 0.05 * view.gaze_x,
                           face.eye_height - 0.35 * eye.upper + 0.02 * view.gaze_y};
  const auto clipped = [&](FacePoints disc) {
    for (cv::Point2d& point : disc) {
      const double t = std::clamp((point.x - eye.inner.x) / (eye.outer.x - eye.inner.x), 0.0, 1.0);
      const auto at = [t](const FacePoints& edge) {
        const double place = t * 10.0;
        const std::size_t left = std::min<std::size_t>(9, static_cast<std::size_t>(place));
        return edge[left].y + (edge[left + 1].y - edge[left].y) * (place - static_cast<double>(left));
      };
      const double top = at(upper), bottom = std::max(at(lower), top);
      point.y = std::clamp(point.y, top, bottom);
    }
    return disc;
  };
  painter.fill(clipped(ellipse_points(centre, radius, radius, 16)), face.iris);
  painter.fill(clipped(ellipse_points(centre, 0.5 * radius, 0.5 * radius, 12)), kBlack);
  painter.stroke(upper, 0.022, 0.042, mix_colours(kBlack, face.hair, 0.25));
  const double pouch = std::max(units.on(right, 6), 0.7 * units.on(right, 7));
  painter.stroke(lower, 0.012, 0.02, skin_fold(face, 0.45 + 0.35 * pouch));
  if (units.on(right, 5) < 0.3) {
    FacePoints crease = upper;
    for (cv::Point2d& point : crease) point.y -= 0.045;
    painter.stroke(crease, 0.012, 0.014, skin_fold(face, 0.4));
  }
  if (const double cheek = units.on(right, 6); cheek > 0.1) {
    const double x = face.eye_spacing, y = face.eye_height;
    painter.fill(ellipse_points({sign * (x + 0.04), y + 0.30}, 0.17, 0.10), lit(face, 0.22 * cheek));
    painter.stroke(
        curve({sign * (x - 0.12), y + 0.15}, {sign * (x + 0.04), y + 0.20}, {sign * (x + 0.20), y + 0.12}),
        0.02, 0.03, skin_fold(face, 0.6 * cheek * (0.5 + face.wrinkles)));
    for (int i = 0; i < 2; ++i)
      painter.stroke({{sign * (x + face.eye_width + 0.04), y - 0.03 + 0.06 * i},
                      {sign * (x + face.eye_width + 0.13), y - 0.07 + 0.13 * i}},
                     0.02, 0.012, skin_fold(face, 0.7 * cheek * face.wrinkles));
  }
}

void draw_brow(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units, bool right) {
  const double inner_up = units.on(right, 1), outer_up = units.on(right, 2), down = units.on(right, 4);
  const double sign = side_sign(right), y = face.brow_height, wrinkle = units.on(right, 9);
  const double middle = face.eye_spacing + 0.01;
  const cv::Point2d inner{sign * (middle - face.brow_length - 0.055 * down),
                          y + 0.02 - face.brow_tilt - 0.135 * inner_up + 0.115 * down + 0.06 * wrinkle};
  const cv::Point2d arch{sign * (middle + 0.01), y - face.brow_arch - 0.06 * inner_up - 0.10 * outer_up +
                                                     0.065 * down + 0.03 * wrinkle};
  const cv::Point2d outer{sign * (middle + face.brow_length + 0.02),
                          y + 0.05 + face.brow_tilt - 0.10 * outer_up + 0.02 * down};
  const cv::Point2d control = 2.0 * arch - 0.5 * (inner + outer);
  painter.stroke(curve(inner, control, outer, 8), face.brow_thickness * 1.15, face.brow_thickness * 0.5,
                 mix_colours(face.hair, skin_fold(face, 0.9), 0.35));
}

void draw_nose(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units) {
  const double wrinkle = units.both(9), lift = 0.045 * wrinkle;
  const double tip = face.nose_length - lift,
               wide = face.nose_width * (1.0 + 0.18 * wrinkle + 0.10 * units.both(12));
  for (const double sign : {-1.0, 1.0}) {
    painter.stroke(curve({sign * face.nose_bridge, face.eye_height + 0.04},
                         {sign * face.nose_bridge * 0.9, 0.02}, {sign * wide * 0.85, tip - 0.07}),
                   0.012, 0.03, skin_fold(face, 0.22), 0.08);
    painter.stroke(
        curve({sign * wide * 0.9, tip - 0.07}, {sign * wide * 1.25, tip}, {sign * wide * 0.8, tip + 0.02}),
        0.02, 0.022, skin_fold(face, 0.5), 0.10);
    painter.fill(ellipse_points({sign * wide * 0.5, tip + 0.015}, 0.035, 0.02, 10), skin_fold(face, 0.9),
                 0.12);
  }
  painter.stroke(curve({-wide * 0.5, tip + 0.03}, {0.0, tip + 0.06}, {wide * 0.5, tip + 0.03}), 0.02, 0.02,
                 skin_fold(face, 0.4), 0.15);
  painter.fill(ellipse_points({0.0, tip - 0.06}, 0.04, 0.05, 10), lit(face, 0.18), 0.18);
  if (wrinkle > 0.08) {
    const FaceColour crease = skin_fold(face, wrinkle * (0.45 + 0.5 * face.wrinkles));
    for (int i = 0; i < 3; ++i) {
      const double y = face.eye_height + 0.03 + 0.06 * i;
      painter.stroke(curve({-0.085, y + 0.025}, {0.0, y - 0.035}, {0.085, y + 0.025}), 0.018, 0.018, crease,
                     0.08);
    }
  }
}

void draw_hair_in_front(FacePainter& painter, const FaceIdentity& face) {
  if (face.hair_style == HairStyle::kBald) return;
  const double w = face.head_width, top = -face.crown_height - 0.10, line = face.hair_line;
  FacePoints edge;
  if (face.hair_style == HairStyle::kFringe) {
    edge = curve({-0.98 * w, -0.25}, {-0.75 * w, line + 0.10}, {0.0, line + 0.14}, 6);
    const FacePoints rest = curve({0.0, line + 0.14}, {0.75 * w, line + 0.10}, {0.98 * w, -0.25}, 6);
    edge.insert(edge.end(), rest.begin() + 1, rest.end());
  } else if (face.hair_style == HairStyle::kParted) {
    const double part = 0.35 * w * face.fringe_side;
    edge = curve({-0.99 * w, -0.22}, {-0.7 * w, line}, {part, line - 0.16}, 6);
    const FacePoints rest = curve({part, line - 0.16}, {0.7 * w, line}, {0.99 * w, -0.22}, 6);
    edge.insert(edge.end(), rest.begin() + 1, rest.end());
  } else {
    edge = curve({-0.99 * w, -0.30}, {-0.85 * w, line - 0.06}, {0.0, line - 0.04}, 6);
    const FacePoints rest = curve({0.0, line - 0.04}, {0.85 * w, line - 0.06}, {0.99 * w, -0.30}, 6);
    edge.insert(edge.end(), rest.begin() + 1, rest.end());
  }
  const FacePoints crown = closed_between(curve({-1.03 * w, -0.30}, {-0.95 * w, top - 0.05}, {0.0, top}, 6),
                                          curve({1.03 * w, -0.30}, {0.95 * w, top - 0.05}, {0.0, top}, 6));
  painter.fill(closed_between(edge, crown), face.hair, FacePainter::kOutline);
}

void draw_glasses(FacePainter& painter, const FaceIdentity& face) {
  if (face.glasses <= 0.0) return;
  const FaceColour frame = mix_colours(kBlack, face.hair, 0.3);
  for (const double sign : {-1.0, 1.0}) {
    FacePoints rim = ellipse_points({sign * face.eye_spacing, face.eye_height + 0.03}, face.eye_width + 0.06,
                                    face.glasses, 24);
    rim.push_back(rim.front());
    painter.stroke(rim, 0.024, 0.024, frame, 0.06);
    painter.stroke({{sign * (face.eye_spacing + face.eye_width + 0.06), face.eye_height},
                    {sign * face.head_width, face.eye_height - 0.03}},
                   0.022, 0.022, frame);
  }
  const double bridge = face.eye_spacing - face.eye_width - 0.06;
  painter.stroke(curve({-bridge, face.eye_height}, {0.0, face.eye_height - 0.05}, {bridge, face.eye_height}),
                 0.024, 0.024, frame, 0.10);
}

}  // namespace ferro
