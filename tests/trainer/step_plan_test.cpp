#include "trainer/step_plan.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

// A group of answers of these lengths to a prompt of three tokens; the last did not end.
JudgedGroup group_of(std::int64_t id, const std::vector<std::size_t>& lengths, bool has_signal = true) {
  JudgedGroup group;
  auto prompt = std::make_shared<Prompt>();
  prompt->ids = {1, 2, 3};
  prompt->positions = mrope_positions(prompt->ids, {}, {});
  group.rollout.request.sample_id = id;
  group.rollout.request.prompt = prompt;
  for (const std::size_t length : lengths) {
    Completion completion;
    completion.token_ids.assign(length, 7);
    completion.logprobs.assign(length, -1.0F);
    completion.finish = FinishReason::kStop;
    group.rollout.completions.push_back(completion);
    group.advantages.push_back(has_signal ? static_cast<double>(length) : 0.0);
  }
  group.rollout.completions.back().finish = FinishReason::kLength;
  group.has_signal = has_signal;
  return group;
}

}  // namespace

TEST_CASE("a generation's groups go to its steps in data order, and steps share its tokens") {
  const std::vector<JudgedGroup> groups{group_of(0, {2, 4}), group_of(1, {1, 1}), group_of(2, {5, 7})};
  const StepPlan plan = plan_steps(groups, {.steps_per_generation = 2, .max_tokens_per_micro_batch = 100});
  REQUIRE(plan.parts.size() == 2);
  REQUIRE(plan.parts[0].groups.size() == 1);
  REQUIRE(plan.parts[1].groups.size() == 2);
  CHECK(plan.parts[0].states[0][1].advantage == 4);
  CHECK(plan.parts[1].states[1][0].advantage == 5);
  CHECK(plan.parts[0].normaliser.sequences_in_step == 2);
  CHECK(plan.parts[1].normaliser.sequences_in_step == 4);
  // 20 tokens in two steps.
  CHECK(plan.parts[0].normaliser.tokens_in_step == 10);
  CHECK(plan.parts[1].normaliser.tokens_in_step == 10);
}

TEST_CASE("a step holds pictures when a prompt of its share does, packed or not") {
  std::vector<JudgedGroup> groups{group_of(0, {2, 4}), group_of(1, {1, 1}, false), group_of(2, {5, 7})};
  auto prompt = std::make_shared<Prompt>(*groups[1].rollout.request.prompt);
  prompt->images.push_back(std::make_shared<ImageInput>());
  groups[1].rollout.request.prompt = prompt;
  const StepPlan plan = plan_steps(groups, {.steps_per_generation = 3});
  CHECK_FALSE(plan.parts[0].pictures);
  CHECK(plan.parts[1].pictures);
  CHECK(plan.parts[1].micro_batches.empty());  // Its answers are equally good.
  CHECK_FALSE(plan.parts[2].pictures);
}

TEST_CASE("a masked answer counts among the answers, not in the tokens, and is not packed") {
  const std::vector<JudgedGroup> groups{group_of(0, {2, 4})};
  StepPlanSettings settings;
  settings.mask_truncated_completions = true;
  const StepPlan plan = plan_steps(groups, settings);
  CHECK(plan.parts[0].normaliser.sequences_in_step == 2);
  CHECK(plan.parts[0].normaliser.tokens_in_step == 2);
  CHECK(plan.parts[0].groups[0].answers.size() == 1);
  CHECK(plan.parts[0].states[0].size() == 1);
  CHECK(plan.metrics.at("completions/masked") == 1);
}

TEST_CASE("a generation of truncated answers alone leaves steps without micro-batches") {
  const std::vector<JudgedGroup> groups{group_of(0, {4})};
  StepPlanSettings settings;
  settings.mask_truncated_completions = true;
  const StepPlan plan = plan_steps(groups, settings);
  CHECK(plan.parts[0].micro_batches.empty());
  CHECK(plan.parts[0].normaliser.tokens_in_step == 0);
}

TEST_CASE("groups without signal count, and are packed only where something else pulls at them") {
  const std::vector<JudgedGroup> groups{group_of(0, {2, 4}, false), group_of(1, {3, 3})};
  StepPlanSettings settings;
  const StepPlan without = plan_steps(groups, settings);
  CHECK(without.parts[0].groups.size() == 1);
  CHECK(without.parts[0].normaliser.tokens_in_step == 12);
  settings.pack_all = true;
  CHECK(plan_steps(groups, settings).parts[0].groups.size() == 2);

  PolicyLossConfig loss;
  CHECK_FALSE(needs_groups_without_signal(loss));
  loss.beta = 0.1;
  CHECK(needs_groups_without_signal(loss));
  loss.beta = 0;
  loss.entropy_coef = 0.1;
  CHECK(needs_groups_without_signal(loss));
  loss.entropy_coef = 0;
  loss.top_entropy_quantile = 0.5;
  CHECK(needs_groups_without_signal(loss));
  CHECK(needs_groups_without_signal({.loss_type = "bnpo"}));
}

TEST_CASE("an answer above the token budget is packed alone and counted") {
  const std::vector<JudgedGroup> groups{group_of(0, {2, 20, 3})};
  const StepPlan plan = plan_steps(groups, {.max_tokens_per_micro_batch = 16});
  CHECK(plan.metrics.at("batch/over_budget") == 1);
  REQUIRE(plan.parts[0].micro_batches.size() == 3);
  CHECK(plan.parts[0].micro_batches[1].batch.tokens.size() == 23);
}

TEST_CASE("an empty answer counts among the answers and has no token") {
  const std::vector<JudgedGroup> groups{group_of(0, {2, 0})};
  const StepPlan plan = plan_steps(groups, {});
  CHECK(plan.parts[0].normaliser.sequences_in_step == 2);
  CHECK(plan.parts[0].normaliser.tokens_in_step == 2);
  REQUIRE(plan.parts[0].micro_batches.size() == 1);
  CHECK(plan.parts[0].micro_batches[0].offsets == std::vector<std::int64_t>{0, 2, 2});
}

}  // namespace ferro
