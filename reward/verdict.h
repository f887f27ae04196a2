#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// Outcome of one reward function on one answer. "Could not judge" is kept apart from "judged wrong".
struct Verdict {
  std::optional<double> value;  ///< Empty: could not be judged.
  std::string reason;  ///< Short, stable, countable: "ok", "label_mismatch", "no_answer_tag", "bad_format",
                       ///< "exception".
};

/// What a reward function sees. A pure function of it.
struct RewardInput {
  std::string_view completion;  ///< Decoded answer, special tokens skipped.
  std::string_view solution;    ///< The row's: a plain label, or text with an <answer> tag.
  std::string_view question;
};

}  // namespace ferro
