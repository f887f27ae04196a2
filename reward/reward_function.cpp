#include "reward/reward_function.h"

#include <optional>

#include "core/error.h"
#include "reward/python_text.h"

namespace ferro {
namespace {

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";
constexpr std::string_view kAnswerOpen = "<answer>", kAnswerClose = "</answer>";

std::optional<std::string_view> first_answer(std::string_view text) {
  const std::size_t open = text.find(kAnswerOpen);
  if (open == std::string_view::npos) return std::nullopt;
  const std::size_t begin = open + kAnswerOpen.size();
  const std::size_t end = text.find(kAnswerClose, begin);
  if (end == std::string_view::npos) return std::nullopt;
  return text.substr(begin, end - begin);
}

/// Whole text matches `<think>.*?</think>\s*<answer>.*?</answer>`, dot matching newlines: what stands between
/// the tags is free, so it is enough that a closing think tag somewhere is followed by blanks and an opening
/// answer tag.
bool has_published_format(std::string_view text) {
  if (text.size() < kThinkOpen.size() + kAnswerClose.size()) return false;
  if (!text.starts_with(kThinkOpen) || !text.ends_with(kAnswerClose)) return false;
  text.remove_prefix(kThinkOpen.size());
  text.remove_suffix(kAnswerClose.size());
  for (std::size_t at = text.find(kThinkClose); at != std::string_view::npos; at = text.find(kThinkClose)) {
    text = strip_left(text.substr(at + kThinkClose.size()));
    if (text.starts_with(kAnswerOpen)) return true;
  }
  return false;
}

Verdict judge_accuracy(const RewardInput& input) {
  if (answer_text(input.completion) == answer_text(input.solution)) return {1.0, "ok"};
  return {0.0, first_answer(input.completion) ? "label_mismatch" : "no_answer_tag"};
}

Verdict judge_format(const RewardInput& input) {
  if (has_published_format(input.completion)) return {1.0, "ok"};
  return {0.0, "bad_format"};
}

}  // namespace

std::string_view answer_text(std::string_view text) {
  return strip(first_answer(text).value_or(text));
}

const std::vector<RewardFunction>& reward_functions() {
  static const std::vector<RewardFunction> table{{"accuracy", judge_accuracy}, {"format", judge_format}};
  return table;
}

std::string why_not_a_reward_function(std::string_view name) {
  std::string known;
  for (const RewardFunction& function : reward_functions()) {
    if (function.name == name) return {};
    known += known.empty() ? "" : ", ";
    known += function.name;
  }
  return fmt::format("no reward function is called `{}`; known: {}", name, known);
}

const RewardFunction& find_reward_function(std::string_view name) {
  for (const RewardFunction& function : reward_functions())
    if (function.name == name) return function;
  fail(ErrorCode::kConfig, "{}", why_not_a_reward_function(name));
}

}  // namespace ferro
