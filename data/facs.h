#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/keyed_random.h"

namespace ferro {

/// A facial action unit of the Facial Action Coding System.
struct ActionUnit {
  int number;
  const char* name;  ///< FACS' own: "cheek raiser".
};

/// The units this project draws and writes about, by number.
const std::vector<ActionUnit>& action_units();

/// neutral, happiness, sadness, surprise, fear, disgust, anger, contempt.
const std::vector<std::string>& expression_labels();

/// The spelling of expression_labels() for a label of any of the published sets ("angry", "Happy", "sad");
/// empty for a word that names none of them.
std::string canonical_expression(std::string_view label);

/// The units that the literature gives for an expression, ascending; empty for neutral. Both spellings are
/// understood; Error{kData} for a label that names no expression.
std::vector<int> action_units_of(std::string_view label);

enum class ReasoningStyle {
  kFull,     ///< A sentence that names each unit in words and by number, then the conclusion: 10 to 35 words.
  kCompact,  ///< Two words a unit and nothing else: 20 to 40 tokens of a small vocabulary.
};

/// "<think>...</think><answer>label</answer>" naming exactly `units`, in the order given; wording drawn from
/// `random`. The answer is `label` as it is. Error{kData} for a unit that action_units() lacks.
std::string reasoning_text(const std::string& label, std::span<const int> units, KeyedRandom& random,
                           ReasoningStyle style = ReasoningStyle::kFull);

}  // namespace ferro
