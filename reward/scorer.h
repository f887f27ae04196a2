#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reward/reward_function.h"
#include "reward/verdict.h"

namespace ferro {

/// One group to judge: the texts of its answers beside the row they answer.
struct ScoreRequest {
  std::string question, solution;
  std::vector<std::string> completions;  ///< [G]
  std::string key{};                     ///< Names the group in logs; judges nothing.
};

/// [function][G]
struct GroupVerdicts {
  std::vector<std::vector<Verdict>> verdicts;
};

/// Judges groups: in this process (below), or by a reward service (reward_client.h). Thread-safe.
class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual const std::vector<std::string>& function_names() const = 0;
  virtual GroupVerdicts score(const ScoreRequest& request) = 0;
};

/// Judges here, in the calling thread; an exception in a function becomes a Verdict without value, reason
/// "exception". Error{kConfig}: no function, an unknown one (the message lists those there are) or one named
/// twice.
std::unique_ptr<Scorer> make_local_scorer(const std::vector<std::string>& function_names);

/// The same with functions of the caller's own.
std::unique_ptr<Scorer> make_local_scorer(std::vector<RewardFunction> functions);

}  // namespace ferro
