#include "data/facs.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

// Names and numbers: P. Ekman, W. V. Friesen, J. C. Hager, "Facial Action Coding System: The Manual", 2002.
const std::vector<ActionUnit> kUnits = {
    {1, "inner brow raiser"},
    {2, "outer brow raiser"},
    {4, "brow lowerer"},
    {5, "upper lid raiser"},
    {6, "cheek raiser"},
    {7, "lid tightener"},
    {9, "nose wrinkler"},
    {12, "lip corner puller"},
    {14, "dimpler"},
    {15, "lip corner depressor"},
    {16, "lower lip depressor"},
    {20, "lip stretcher"},
    {23, "lip tightener"},
    {26, "jaw drop"},
};

struct Wording {
  int number;
  std::array<const char*, 2> full;
  const char* compact;
};

constexpr Wording kWordings[] = {
    {1, {"inner brows raised", "inner brows up"}, "inner brows"},
    {2, {"outer brows raised", "outer brows up"}, "outer brows"},
    {4, {"brows lowered", "brows drawn together"}, "brows down"},
    {5, {"upper lids raised", "eyes wide open"}, "eyes wide"},
    {6, {"cheeks raised", "cheeks lifted"}, "cheeks up"},
    {7, {"lids tight", "lids tense"}, "lids tight"},
    {9, {"nose wrinkled", "nose bridge wrinkled"}, "nose wrinkled"},
    {12, {"lip corners pulled up", "lip corners up"}, "corners up"},
    {14, {"lip corner tucked in", "dimple at the lip corner"}, "corner tucked"},
    {15, {"lip corners pulled down", "lip corners down"}, "corners down"},
    {16, {"lower lip pulled down", "lower lip down"}, "lip down"},
    {20, {"lips stretched", "lips stretched wide"}, "lips stretched"},
    {23, {"lips tight", "lips pressed thin"}, "lips tight"},
    {26, {"jaw dropped", "mouth open"}, "jaw dropped"},
};

struct Prototype {
  const char* label;
  const char* other_spelling;
  std::vector<int> units;
};

// Prototypes: W. V. Friesen, P. Ekman, "EMFACS-7: Emotional Facial Action Coding System", 1983, and the table
// of prototypes and major variants in the FACS Investigator's Guide (Ekman, Friesen, Hager, 2002); as
// summarised by P. Lucey et al., "The Extended Cohn-Kanade Dataset (CK+)", CVPR Workshops 2010, table 1.
// Contempt is unilateral (R12A + R14A). Neutral is the absence of action.
const std::vector<Prototype>& prototypes() {
  static const std::vector<Prototype> kTable = {
      {"neutral", "neutral", {}},
      {"happiness", "happy", {6, 12}},
      {"sadness", "sad", {1, 4, 15}},
      {"surprise", "surprised", {1, 2, 5, 26}},
      {"fear", "fearful", {1, 2, 4, 5, 7, 20, 26}},
      {"disgust", "disgusted", {9, 15, 16}},
      {"anger", "angry", {4, 5, 7, 23}},
      {"contempt", "contemptuous", {12, 14}},
  };
  return kTable;
}

const Prototype* find_prototype(std::string_view label) {
  std::string lower(label);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const Prototype& prototype : prototypes()) {
    if (lower == prototype.label || lower == prototype.other_spelling) return &prototype;
  }
  return nullptr;
}

const Wording& wording_of(int number) {
  for (const Wording& wording : kWordings) {
    if (wording.number == number) return wording;
  }
  fail(ErrorCode::kData, "no wording for action unit {}: known are 1 2 4 5 6 7 9 12 14 15 16 20 23 26",
       number);
}

std::string list_units(std::span<const int> units, KeyedRandom& random, ReasoningStyle style) {
  std::string list;
  for (std::size_t i = 0; i < units.size(); ++i) {
    if (i > 0) list += style == ReasoningStyle::kFull && i + 1 == units.size() ? " and " : ", ";
    const Wording& wording = wording_of(units[i]);
    if (style == ReasoningStyle::kCompact) {
      list += wording.compact;
    } else {
      list += fmt::format("{} (AU{})", wording.full[random.below(wording.full.size())], units[i]);
    }
  }
  return list;
}

std::string full_sentence(const std::string& label, std::span<const int> units, KeyedRandom& random) {
  static constexpr std::array kNothing = {"No action unit is active: the face is at rest.",
                                          "I see no active muscle: the face is relaxed.",
                                          "Brows, eyes and mouth are at rest."};
  static constexpr std::array kOpenings = {"I see ", "The face shows ", "Visible: "};
  static constexpr std::array kClosings = {"This suggests ", "Together this is ", "It reads as "};
  std::string text = units.empty() ? std::string(kNothing[random.below(kNothing.size())])
                                   : kOpenings[random.below(kOpenings.size())] +
                                         list_units(units, random, ReasoningStyle::kFull) + ".";
  return text + " " + kClosings[random.below(kClosings.size())] + label + ".";
}

}  // namespace

const std::vector<ActionUnit>& action_units() {
  return kUnits;
}

const std::vector<std::string>& expression_labels() {
  static const std::vector<std::string> kLabels = [] {
    std::vector<std::string> labels;
    for (const Prototype& prototype : prototypes()) labels.emplace_back(prototype.label);
    return labels;
  }();
  return kLabels;
}

std::string canonical_expression(std::string_view label) {
  const Prototype* prototype = find_prototype(label);
  return prototype == nullptr ? std::string() : prototype->label;
}

std::vector<int> action_units_of(std::string_view label) {
  const Prototype* prototype = find_prototype(label);
  if (prototype == nullptr) {
    fail(ErrorCode::kData, "no action units are known for the label \"{}\": expected one of {}", label,
         fmt::join(expression_labels(), ", "));
  }
  return prototype->units;
}

std::string reasoning_text(const std::string& label, std::span<const int> units, KeyedRandom& random,
                           ReasoningStyle style) {
  std::string thought;
  if (style == ReasoningStyle::kFull) {
    thought = full_sentence(label, units, random);
  } else {
    thought = units.empty() ? "face at rest" : list_units(units, random, style);
  }
  return fmt::format("<think>{}</think><answer>{}</answer>", thought, label);
}

}  // namespace ferro
