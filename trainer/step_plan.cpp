#include "trainer/step_plan.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "trainer/rank_world.h"

namespace ferro {
namespace {

class Planner {
 public:
  Planner(const StepPlanSettings& settings, StepPlan& plan) : settings_(settings), plan_(plan) {}

  StepPart part_of(std::span<const JudgedGroup> groups) {
    StepPart part;
    for (const JudgedGroup& group : groups) add(group, part);
    part.groups_in_step = static_cast<std::size_t>(
        std::count_if(part.groups.begin(), part.groups.end(),
                      [](const AnsweredPrompt& group) { return !group.answers.empty(); }));
    if (!settings_.same_micro_batches) {
      keep_own(part.groups);
      keep_own(part.states);
    }
    part.micro_batches = pack_groups(part.groups, settings_.max_tokens_per_micro_batch);
    part.normaliser.micro_batches = static_cast<std::int64_t>(part.micro_batches.size());
    if (settings_.same_micro_batches) keep_own(part.micro_batches);
    return part;
  }

 private:
  template <class Thing>
  void keep_own(std::vector<Thing>& things) const {
    const RankPart own = part_of_rank(things.size(), settings_.rank, settings_.ranks);
    things.erase(things.begin() + static_cast<std::ptrdiff_t>(own.end), things.end());
    things.erase(things.begin(), things.begin() + static_cast<std::ptrdiff_t>(own.begin));
  }

  void add(const JudgedGroup& group, StepPart& part) {
    AnsweredPrompt answered{group.rollout.request.prompt, {}};
    std::vector<AnswerState> states;
    part.pictures = part.pictures || !answered.prompt->images.empty();
    for (std::size_t i = 0; i < group.rollout.completions.size(); ++i) {
      const Completion& completion = group.rollout.completions[i];
      part.normaliser.sequences_in_step += 1;
      if (settings_.mask_truncated_completions && completion.finish != FinishReason::kStop) {
        plan_.metrics["completions/masked"] += 1;
        continue;
      }
      const std::size_t tokens = completion.token_ids.size();
      part.normaliser.tokens_in_step += static_cast<double>(tokens);
      if (static_cast<std::int64_t>(tokens + answered.prompt->ids.size()) >
          settings_.max_tokens_per_micro_batch)
        plan_.metrics["batch/over_budget"] += 1;
      answered.answers.push_back(completion.token_ids);
      AnswerState& state = states.emplace_back();
      if (!group.advantages.empty()) state.advantage = group.advantages[i];
      state.sampled_logps = completion.logprobs;
      if (!group.old_logps.empty()) state.old_logps = group.old_logps[i];
    }
    if (!settings_.pack_all && !group.has_signal) return;
    part.groups.push_back(std::move(answered));
    part.states.push_back(std::move(states));
  }

  const StepPlanSettings& settings_;
  StepPlan& plan_;
};

}  // namespace

bool depends_on_micro_batches(const PolicyLossConfig& loss) {
  return loss.loss_type == "bnpo" || loss.entropy_coef != 0 || loss.top_entropy_quantile < 1;
}

bool needs_groups_without_signal(const PolicyLossConfig& loss) {
  return loss.beta > 0 || depends_on_micro_batches(loss);
}

StepPlan plan_steps(std::span<const JudgedGroup> groups, const StepPlanSettings& settings) {
  FERRO_CHECK(settings.steps_per_generation > 0, "{} steps", settings.steps_per_generation);
  StepPlan plan;
  plan.metrics = {{"completions/masked", 0}, {"batch/over_budget", 0}};
  Planner planner(settings, plan);
  const auto steps = static_cast<std::size_t>(settings.steps_per_generation);
  double tokens = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    const std::size_t begin = groups.size() * step / steps, end = groups.size() * (step + 1) / steps;
    plan.parts.push_back(planner.part_of(groups.subspan(begin, end - begin)));
    tokens += plan.parts.back().normaliser.tokens_in_step;
  }
  for (StepPart& part : plan.parts) part.normaliser.tokens_in_step = tokens / static_cast<double>(steps);
  return plan;
}

}  // namespace ferro
