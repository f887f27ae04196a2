#include <algorithm>
#include <cmath>

#include "data/faces/face_features.h"

namespace ferro {
namespace {

struct MouthShape {
  cv::Point2d right, left;                    ///< Corners.
  double middle = 0.0;                        ///< Height of the line where closed lips meet, at the middle.
  double upper_edge = 0.0, lower_edge = 0.0;  ///< Inner edges of the lips at the middle.
  double upper_lip = 0.0, lower_lip = 0.0;
  double half_width = 0.0;
};

cv::Point2d mouth_corner(const FaceIdentity& face, const ActionUnits& units, bool right) {
  const double pull = units.on(right, 12), depress = units.on(right, 15), stretch = units.on(right, 20);
  const double dimple = units.on(right, 14), tight = units.on(right, 23);
  const double out = 0.085 * pull + 0.105 * stretch + 0.045 * dimple + 0.01 * depress - 0.05 * tight -
                     0.045 * units.both(26) * (1.0 - pull);
  const double down = -0.125 * pull + 0.11 * depress + 0.03 * stretch - 0.045 * dimple +
                      0.05 * units.both(26) - face.mouth_rest;
  return {(right ? -1.0 : 1.0) * (face.mouth_width + out), face.mouth_height + down};
}

MouthShape mouth_shape(const FaceIdentity& face, const ActionUnits& units) {
  MouthShape mouth;
  mouth.right = mouth_corner(face, units, true);
  mouth.left = mouth_corner(face, units, false);
  const double smile = units.both(12), tight = units.both(23);
  const double drop = 0.24 * units.both(26), depress = units.both(16);
  const double lift = 0.045 * units.both(9);
  mouth.middle = face.mouth_height + 0.015 * smile - 0.035 * units.both(15);
  mouth.upper_edge = mouth.middle - lift - (drop > 0.02 ? 0.015 * smile : 0.0);
  mouth.lower_edge = mouth.middle + drop + 0.05 * depress;
  if (drop < 0.01) {
    mouth.upper_edge = mouth.middle - 0.5 * lift;
    mouth.lower_edge = mouth.upper_edge + 0.05 * depress;
  }
  const double thin = std::clamp(
      1.0 - 0.30 * smile - 0.62 * tight - 0.25 * units.both(20) - 0.12 * units.both(26), 0.25, 1.0);
  mouth.upper_lip = face.upper_lip * thin;
  mouth.lower_lip = face.lower_lip * thin * (1.0 + 0.25 * depress);
  mouth.half_width = 0.5 * (mouth.left.x - mouth.right.x);
  return mouth;
}

/// From corner to corner through (middle of the mouth, y), as two curves so that each corner keeps its own
/// height.
FacePoints across(const MouthShape& mouth, double y, double fullness) {
  const double x = 0.5 * (mouth.left.x + mouth.right.x);
  const double reach = fullness * mouth.half_width;
  FacePoints points = curve(mouth.right, {x - reach, y}, {x, y}, 6);
  const FacePoints rest = curve({x, y}, {x + reach, y}, mouth.left, 6);
  points.insert(points.end(), rest.begin() + 1, rest.end());
  return points;
}

FacePoints upper_lip_top(const MouthShape& mouth, double y) {
  const double x = 0.5 * (mouth.left.x + mouth.right.x), peak = 0.25 * mouth.half_width;
  FacePoints points = curve(mouth.right, {x - 0.55 * mouth.half_width, y + 0.005}, {x - peak, y}, 5);
  points.emplace_back(x, y + 0.018);
  const FacePoints rest = curve({x + peak, y}, {x + 0.55 * mouth.half_width, y + 0.005}, mouth.left, 5);
  points.insert(points.end(), rest.begin(), rest.end());
  return points;
}

void draw_folds(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units,
                const MouthShape& mouth) {
  for (const bool right : {true, false}) {
    const double sign = right ? -1.0 : 1.0;
    const cv::Point2d corner = right ? mouth.right : mouth.left;
    const double laugh = std::max(units.on(right, 12), 0.85 * units.on(right, 9));
    if (laugh > 0.08) {
      const cv::Point2d from{sign * (face.nose_width + 0.05), face.nose_length - 0.03};
      const cv::Point2d to{corner.x + sign * 0.10, corner.y + 0.03};
      painter.stroke(curve(from, {to.x + sign * 0.02, 0.5 * (from.y + to.y) - 0.02}, to), 0.022, 0.03,
                     skin_fold(face, laugh * (0.35 + 0.55 * face.wrinkles)));
    }
    if (const double dimple = units.on(right, 14); dimple > 0.05) {
      painter.stroke(curve({corner.x + sign * 0.03, corner.y - 0.07}, {corner.x + sign * 0.085, corner.y},
                           {corner.x + sign * 0.04, corner.y + 0.08}),
                     0.025, 0.03, skin_fold(face, 0.9 * dimple));
    }
    if (const double depress = units.on(right, 15); depress > 0.08) {
      painter.stroke(
          curve({corner.x + sign * 0.01, corner.y + 0.01}, {corner.x + sign * 0.05, corner.y + 0.05},
                {corner.x + sign * 0.03, corner.y + 0.12}),
          0.025, 0.02, skin_fold(face, 0.75 * depress));
    }
    if (const double stretch = units.on(right, 20); stretch > 0.1) {
      painter.stroke(
          curve({corner.x + sign * 0.05, corner.y - 0.06}, {corner.x + sign * 0.09, corner.y + 0.03},
                {corner.x + sign * 0.06, corner.y + 0.12}),
          0.018, 0.018, skin_fold(face, 0.55 * stretch));
    }
  }
}

}  // namespace

void draw_beard(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units) {
  const double chin = face.chin_length + 0.12 * units.both(26);
  const FaceColour hair = mix_colours(face.skin, face.hair, face.beard > 0.0 ? face.beard : 0.7);
  if (face.beard > 0.0) {
    FacePoints outer =
        curve({-0.93 * face.head_width, 0.25}, {-0.95 * face.jaw_width, 1.02 * chin}, {0.0, 1.0 * chin}, 8);
    const FacePoints other = mirrored(outer);
    outer.insert(outer.end(), other.rbegin() + 1, other.rend());
    FacePoints inner = curve({-0.80 * face.head_width, 0.25}, {-0.62 * face.head_width, 0.62},
                             {-0.2, face.mouth_height + 0.16}, 8);
    const FacePoints inner_other = mirrored(inner);
    inner.insert(inner.end(), inner_other.rbegin(), inner_other.rend());
    painter.fill(closed_between(std::move(outer), inner), hair, FacePainter::kOutline);
  }
  if (face.moustache) {
    const double y = 0.5 * (face.nose_length + face.mouth_height) + 0.03;
    const double reach = face.mouth_width * 0.85;
    painter.fill(closed_between(curve({-reach, y + 0.06}, {0.0, y - 0.10}, {reach, y + 0.06}),
                                curve({-reach, y + 0.08}, {0.0, y + 0.02}, {reach, y + 0.08})),
                 hair, 0.03);
  }
}

void draw_mouth(FacePainter& painter, const FaceIdentity& face, const ActionUnits& units) {
  const MouthShape mouth = mouth_shape(face, units);
  draw_folds(painter, face, units, mouth);
  const bool open = mouth.lower_edge - mouth.upper_edge > 0.012;
  const FacePoints upper = across(mouth, mouth.upper_edge, 0.5),
                   lower = across(mouth, mouth.lower_edge, open ? 0.62 : 0.5);
  const FaceColour shade{face.lip[0] * 0.8, face.lip[1] * 0.78, face.lip[2] * 0.78};
  painter.fill(closed_between(upper_lip_top(mouth, mouth.upper_edge - mouth.upper_lip), upper), shade);
  painter.fill(closed_between(lower, across(mouth, mouth.lower_edge + mouth.lower_lip, 0.55)), face.lip);
  if (open) {
    painter.fill(closed_between(upper, lower), {46, 20, 22});
    const double gap = mouth.lower_edge - mouth.upper_edge;
    const double teeth = std::min(0.75 * gap, 0.085) *
                         std::clamp(0.35 + 0.7 * units.both(12) + 0.5 * units.both(20), 0.0, 1.0);
    FacePoints row = upper;
    for (cv::Point2d& point : row) {
      const double inside = std::max(0.0, 1.0 - std::abs(point.x) / (0.92 * mouth.half_width));
      point.y += teeth * std::min(1.0, 2.5 * inside);
    }
    painter.fill(closed_between(upper, row), {226, 222, 214});
  } else {
    painter.stroke(upper, 0.02, 0.02, skin_fold(face, 0.95));
  }
  painter.stroke(curve({-0.13, mouth.lower_edge + mouth.lower_lip + 0.045},
                       {0.0, mouth.lower_edge + mouth.lower_lip + 0.025},
                       {0.13, mouth.lower_edge + mouth.lower_lip + 0.045}),
                 0.02, 0.02, skin_fold(face, 0.25));
}

}  // namespace ferro
