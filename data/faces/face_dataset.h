#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/faces/face_generator.h"
#include "data/facs.h"

namespace ferro {

struct FaceDatasetOptions {
  std::uint64_t seed = 1;
  std::int64_t count = 1000;  ///< Faces; the 8 labels are balanced to within one.
  std::int64_t first_identity =
      0;  ///< Sets with disjoint ranges [first, first + identities) share no person.
  std::int64_t identities = 500;
  std::int32_t size = 48;
  bool colour = false;
  double difficulty =
      0.5;  ///< 0: clear and frontal; 1: faint, turned, noisy. Scales pose, light, noise and ambiguity.
  ReasoningStyle reasoning = ReasoningStyle::kCompact;
  bool overwrite = false;  ///< Replace a set that the folder holds.
  std::string question = "What expression does this face show?";
};

/// One face of a set before it is drawn.
struct FaceSample {
  std::int64_t identity = 0;
  std::string label;
  ActionUnits units;
  FaceView view;
};

/// Face number `index` of the set: a pure function of (options, index).
FaceSample sample_face(const FaceDatasetOptions& options, std::int64_t index);

/// Draws that face.
FacePicture draw_face(const FaceDatasetOptions& options, const FaceSample& sample);

/// Writes images/NNNNNN.png and, with paths relative to `folder`: sft.json (image_path, question, response:
/// reasoning that names the drawn action units, then the label), sft_labels.json (response: the label alone)
/// and rl.json (image_path, problem, solution). The same options give the same bytes. Error{kIo};
/// Error{kUsage} for options out of range, or when the folder holds a set and `overwrite` is not set.
void write_face_dataset(const FaceDatasetOptions& options, const std::filesystem::path& folder);

}  // namespace ferro
