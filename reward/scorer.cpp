#include "reward/scorer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

class LocalScorer final : public Scorer {
 public:
  explicit LocalScorer(std::vector<RewardFunction> functions) : functions_(std::move(functions)) {
    if (functions_.empty()) fail(ErrorCode::kConfig, "a scorer needs at least one reward function");
    for (const RewardFunction& function : functions_) {
      if (std::find(names_.begin(), names_.end(), function.name) != names_.end())
        fail(ErrorCode::kConfig, "reward function `{}` is named twice", function.name);
      names_.emplace_back(function.name);
    }
  }

  const std::vector<std::string>& function_names() const override { return names_; }

  GroupVerdicts score(const ScoreRequest& request) override {
    GroupVerdicts group;
    for (const RewardFunction& function : functions_) {
      std::vector<Verdict>& verdicts = group.verdicts.emplace_back();
      verdicts.reserve(request.completions.size());
      for (const std::string& completion : request.completions)
        verdicts.push_back(judge(function, {completion, request.solution, request.question}));
    }
    return group;
  }

 private:
  static Verdict judge(const RewardFunction& function, const RewardInput& input) {
    try {
      return function.judge(input);
    } catch (...) {
      return {std::nullopt, "exception"};
    }
  }

  std::vector<RewardFunction> functions_;
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Scorer> make_local_scorer(const std::vector<std::string>& function_names) {
  std::vector<RewardFunction> functions;
  for (const std::string& name : function_names) functions.push_back(find_reward_function(name));
  return make_local_scorer(std::move(functions));
}

std::unique_ptr<Scorer> make_local_scorer(std::vector<RewardFunction> functions) {
  return std::make_unique<LocalScorer>(std::move(functions));
}

}  // namespace ferro
