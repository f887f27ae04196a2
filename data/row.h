#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ferro {

/// The three row kinds of the published sets.
enum class RowKind {
  kSft,        ///< image_path, question, response
  kRl,         ///< image_path, problem, solution
  kBenchmark,  ///< image_path, true_label, prompt, candidate_labels
};

/// One row of a data set, whatever its kind; fields a kind does not have stay empty. Plain data.
struct Row {
  std::int64_t id = 0;     ///< Row number in its file, from 0; malformed rows keep their number.
  std::string image_path;  ///< Resolved against the data root; empty: the row has no image.
  std::string question;    ///< kSft `question`, kRl `problem`, kBenchmark `prompt`.
  std::string response;    ///< kSft only: the text to learn.
  std::string solution;    ///< kRl `solution`, kBenchmark `true_label`.
  std::vector<std::string> candidate_labels;  ///< kBenchmark only.
};

}  // namespace ferro
