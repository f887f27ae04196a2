#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "reward/verdict.h"

namespace ferro {

/// A named reward. Pure and thread-safe.
struct RewardFunction {
  std::string_view name;
  Verdict (*judge)(const RewardInput& input);
};

/// Every reward function there is; Error{kConfig} for an unknown name lists them.
const std::vector<RewardFunction>& reward_functions();
const RewardFunction& find_reward_function(std::string_view name);

/// Empty when `name` is a reward function; else what to say about it, with the names there are.
std::string why_not_a_reward_function(std::string_view name);

/// Text of the first `<answer>(.*?)</answer>` (dot matches newline), else the whole text; stripped like
/// Python's str.strip().
std::string_view answer_text(std::string_view text);

}  // namespace ferro
