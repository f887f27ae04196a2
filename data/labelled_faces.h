#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset_reader.h"

namespace ferro {

struct LabelledFace {
  std::int64_t row = 0;  ///< In its source, from 0.
  std::string path;      ///< Relative to the image root.
  std::string label, split;
  std::vector<std::pair<std::string, std::int64_t>> votes;  ///< Label, count; empty: the source has none.
};

struct LabelledFaces {
  std::vector<LabelledFace> faces;
  std::filesystem::path image_root;
  std::vector<SetAsideRow> set_aside;
};

/// See FaceLabelsOptions for the forms of `input`. Votes that are not counts, paths without an image and
/// splits that cannot be part of a file's name are set aside.
LabelledFaces read_labelled_faces(const std::filesystem::path& input, const std::filesystem::path& image_root,
                                  const std::string& default_split);

}  // namespace ferro
