#include "data/faces/face_identity.h"

#include <algorithm>

#include "core/keyed_random.h"

namespace ferro {
namespace {

constexpr std::uint64_t kIdentityField = 1;

FaceColour mix(const FaceColour& a, const FaceColour& b, double t) {
  return {a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t};
}

/// Mean plus spread times a normal draw cut at two standard deviations.
double around(KeyedRandom& random, double mean, double spread) {
  return mean + spread * std::clamp(random.normal(), -2.0, 2.0);
}

void draw_proportions(KeyedRandom& random, FaceIdentity& face) {
  face.head_width = around(random, 0.76, 0.04);
  face.jaw_width = face.head_width * around(random, 0.76, 0.05);
  face.chin_length = around(random, 1.0, 0.04);
  face.crown_height = around(random, 1.03, 0.04);
  face.ear_size = around(random, 0.16, 0.015);
  face.eye_spacing = around(random, 0.345, 0.018);
  face.eye_height = around(random, -0.16, 0.02);
  face.eye_width = around(random, 0.165, 0.012);
  face.eye_opening = around(random, 0.072, 0.008);
  face.eye_tilt = around(random, 0.0, 0.012);
  face.iris_size = around(random, 0.075, 0.005);
  face.brow_height = face.eye_height - around(random, 0.20, 0.018);
  face.brow_length = around(random, 0.20, 0.015);
  face.brow_thickness = around(random, 0.052, 0.012);
  face.brow_arch = around(random, 0.04, 0.015);
  face.brow_tilt = around(random, 0.0, 0.014);
  face.nose_length = around(random, 0.25, 0.025);
  face.nose_width = around(random, 0.125, 0.015);
  face.nose_bridge = around(random, 0.05, 0.01);
  face.mouth_height = around(random, 0.54, 0.025);
  face.mouth_width = around(random, 0.265, 0.02);
  face.upper_lip = around(random, 0.05, 0.010);
  face.lower_lip = around(random, 0.07, 0.012);
  face.mouth_rest = around(random, 0.0, 0.012);
  face.wrinkles = random.uniform(0.3, 0.9);
}

void draw_colours(KeyedRandom& random, FaceIdentity& face) {
  const double tone = random.uniform();
  face.skin = mix({238, 205, 182}, {112, 74, 54}, tone);
  for (double& channel : face.skin) channel += random.uniform(-8.0, 8.0);
  const FaceColour hairs[] = {{28, 24, 22},   {66, 44, 30},    {110, 76, 46},
                              {190, 154, 98}, {150, 146, 144}, {126, 58, 34}};
  const std::uint64_t kinds = tone > 0.55 ? 2 : 6;
  face.hair = hairs[random.below(kinds)];
  const double shade = random.uniform(0.85, 1.15);
  for (double& channel : face.hair) channel = std::min(255.0, channel * shade);
  face.iris = mix({60, 40, 26}, {92, 126, 148}, tone > 0.5 ? 0.0 : random.uniform());
  face.lip = mix(face.skin, {158, 62, 66}, random.uniform(0.35, 0.75));
}

}  // namespace

FaceIdentity make_identity(std::uint64_t seed, std::int64_t identity) {
  KeyedRandom random(seed, RandomPurpose::kFaces, {kIdentityField, static_cast<std::uint64_t>(identity)});
  FaceIdentity face;
  draw_proportions(random, face);
  draw_colours(random, face);
  face.hair_style = static_cast<HairStyle>(random.below(5));
  face.hair_line = around(random, -0.70, 0.04);
  face.fringe_side = random.below(2) == 0 ? -1.0 : 1.0;
  const double whiskers = random.uniform();
  face.beard = whiskers < 0.14 ? random.uniform(0.35, 0.8) : 0.0;
  face.moustache = whiskers < 0.09 || (whiskers > 0.95 && whiskers < 0.98);
  face.glasses = random.uniform() < 0.15 ? random.uniform(0.13, 0.18) : 0.0;
  return face;
}

}  // namespace ferro
