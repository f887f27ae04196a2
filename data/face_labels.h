#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/dataset_reader.h"
#include "data/facs.h"

namespace ferro {

enum class AnswerStyle {
  kReasoning,  ///< <think>sentences that name the label's action units</think><answer>label</answer>
  kLabel,      ///< <answer>label</answer>
};

struct FaceLabelsOptions {
  /// A CSV file with a header (`path` or `file`, `label`, and optionally `split` and `votes_<label>`
  /// columns), a folder with a labels.csv of that kind, or a folder of class folders (<split>/<label>/x.png
  /// or <label>/x.png).
  std::filesystem::path input;
  std::filesystem::path output;      ///< Folder for the JSON files; created.
  std::filesystem::path image_root;  ///< What a CSV's paths are relative to; empty: the CSV's folder.
  AnswerStyle answer = AnswerStyle::kReasoning;
  ReasoningStyle reasoning = ReasoningStyle::kFull;
  std::string question = "What expression does this face show?";
  std::string default_split = "train";  ///< Of faces whose source names none.
  /// 0: the label column. N: each face of `drawn_splits` N times, its label drawn each time in proportion to
  /// the votes_* columns (those of unknown and NF apart); other splits keep the label column.
  std::int64_t copies = 0;
  std::vector<std::string> drawn_splits = {"train"};
  std::uint64_t seed = 1;  ///< Of drawn labels and wording.
};

struct FaceLabelsReport {
  struct Split {
    std::int64_t faces = 0, rows = 0;
    std::map<std::string, std::int64_t> rows_of_label;
  };
  std::map<std::string, Split> splits;
  std::filesystem::path
      image_root;  ///< What the written image paths are relative to: the reader's `image_root`.
  std::vector<SetAsideRow>
      set_aside;  ///< `row`: number of the face in the source, from 0 (the header not counted).
};

/// Writes, per split, sft_<split>.json (image_path, question, response) and rl_<split>.json (image_path,
/// problem, solution) in the published schema. The same options and files give the same bytes. Faces that
/// cannot be used (no such image, unknown label, bad votes, ...) are set aside. Error{kIo}; Error{kData} for
/// a CSV without the columns it needs or broken as a file, or when no face is left; Error{kUsage} for options
/// out of range.
FaceLabelsReport write_face_labels(const FaceLabelsOptions& options);

}  // namespace ferro
