#include "trainer/layer_walk.h"

#include <cmath>
#include <thread>

#include <catch2/catch.hpp>

#include "core/clock.h"
#include "core/error.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/grpo_step.h"
#include "trainer/sft_step.h"

namespace ferro {
namespace {

// Groups of answers of unequal length (one empty), with advantages and off-policy ratios.
struct Groups {
  std::vector<AnsweredPrompt> prompts;
  std::vector<std::vector<AnswerState>> states;
  LossNormaliser normaliser;
};

Groups make_groups(const ModelConfig& config) {
  Groups groups;
  for (std::uint64_t g = 0; g < 3; ++g) {
    groups.prompts.push_back({testing::random_prompt(config, g, 5), {}});
    groups.states.emplace_back();
    for (std::uint64_t a = 0; a < 4; ++a) {
      const std::int64_t length = g == 1 && a == 2 ? 0 : static_cast<std::int64_t>(3 + 2 * a + g);
      groups.prompts.back().answers.push_back(testing::random_answer(10 * g + a, length));
      AnswerState state;
      state.advantage = a == 0 ? 1.5 : -0.5;
      for (std::int64_t t = 0; t < length; ++t)
        state.old_logps.push_back(-5.2F + 0.05F * static_cast<float>(t));
      groups.states.back().push_back(state);
      groups.normaliser.sequences_in_step += 1;
      groups.normaliser.tokens_in_step += static_cast<double>(length);
    }
  }
  return groups;
}

// The same answers as rows of their own: every prompt repeated for each answer.
Groups as_rows(const Groups& groups) {
  Groups rows;
  rows.normaliser = groups.normaliser;
  for (std::size_t g = 0; g < groups.prompts.size(); ++g) {
    for (std::size_t a = 0; a < groups.prompts[g].answers.size(); ++a) {
      rows.prompts.push_back({groups.prompts[g].prompt, {groups.prompts[g].answers[a]}});
      rows.states.push_back({groups.states[g][a]});
    }
  }
  return rows;
}

struct Result {
  double loss = 0;
  at::Tensor gradients;
  std::size_t micro_batches = 0;
};

Result gradients_of(Model& model, const Model& reference, Groups groups, std::int64_t max_tokens,
                    LayerWalk::Recompute recompute) {
  PolicyLossConfig loss;
  loss.beta = 0.1;
  const SystemClock clock;
  GrpoStep step(model, &reference, loss, recompute, {192, 193}, 0.9);
  model.arena.gradients.zero_();
  const auto micro_batches = pack_groups(groups.prompts, max_tokens);
  const auto outcome = step.run(micro_batches, groups.states, groups.normaliser, false, clock);
  return {outcome.loss, model.arena.gradients.clone(), micro_batches.size()};
}

// fp32 noise: sums in another order.
void check_same(const Result& a, const Result& b) {
  CHECK(a.loss == Approx(b.loss).epsilon(1e-5));
  const double largest = b.gradients.abs().max().item<double>();
  CHECK(largest > 1e-3);
  CHECK((a.gradients - b.gradients).abs().max().item<double>() <= 2e-5 * largest);
}

}  // namespace

TEST_CASE("a group-packed batch has the loss and gradients of its answers as separate rows") {
  Model model = testing::random_model(testing::tiny_config(), 1, true);
  const Model reference = testing::random_model(testing::tiny_config(), 2, false);
  const Groups groups = make_groups(model.config);
  const Result packed = gradients_of(model, reference, groups, 1 << 20, LayerWalk::Recompute::kNone);
  const Result rows = gradients_of(model, reference, as_rows(groups), 1 << 20, LayerWalk::Recompute::kNone);
  CHECK(packed.micro_batches == 1);
  check_same(packed, rows);
}

TEST_CASE("the number of micro-batches changes nothing, groups split or whole") {
  Model model = testing::random_model(testing::tiny_config(), 1, true);
  const Model reference = testing::random_model(testing::tiny_config(), 2, false);
  const Groups groups = make_groups(model.config);
  // A prompt has 18 tokens, the groups 18 + 24, 18 + 20 and 18 + 32.
  const Result one = gradients_of(model, reference, groups, 1 << 20, LayerWalk::Recompute::kNone);
  const Result two = gradients_of(model, reference, groups, 85, LayerWalk::Recompute::kNone);
  const Result split = gradients_of(model, reference, groups, 40, LayerWalk::Recompute::kNone);
  CHECK(one.micro_batches == 1);
  CHECK(two.micro_batches == 2);
  CHECK(split.micro_batches >= 5);
  check_same(two, one);
  check_same(split, one);
}

TEST_CASE("recomputing a stage in backward gives the same bits as keeping its graph") {
  Model model = testing::random_model(testing::tiny_config(), 1, true);
  const Model reference = testing::random_model(testing::tiny_config(), 2, false);
  const Groups groups = make_groups(model.config);
  const Result kept = gradients_of(model, reference, groups, 60, LayerWalk::Recompute::kNone);
  const Result recomputed = gradients_of(model, reference, groups, 60, LayerWalk::Recompute::kFull);
  CHECK(kept.loss == recomputed.loss);
  CHECK(at::equal(kept.gradients, recomputed.gradients));
}

TEST_CASE("the layer walk computes the reference forward") {
  const Model model = testing::random_model(testing::tiny_config(), 1, false);
  BatchPacker packer;
  packer.add_row(*testing::random_prompt(model.config, 1, 4), testing::random_answer(1, 7), false,
                 model.config.vision_tokens());
  packer.add_row(*testing::random_prompt(model.config, 2, 3), testing::random_answer(2, 5), false,
                 model.config.vision_tokens());
  const PackedBatch batch = packer.finish();
  LayerWalk walk(model, LayerWalk::Recompute::kNone);
  CHECK(at::equal(walk.forward(batch, false), text_forward(model.weights, batch, model.config)));
}

TEST_CASE("a gradient of the walk is the slope of the loss") {
  // Central differences on some weights of every kind of stage, in fp32: a step of 1e-2 leaves a few per cent
  // of rounding.
  Model model = testing::random_model(testing::tiny_config(), 3, true);
  BatchPacker packer;
  for (std::uint64_t i = 0; i < 3; ++i)
    packer.add_row(*testing::random_prompt(model.config, i, 4), testing::random_answer(i, 9), false,
                   model.config.vision_tokens());
  const std::vector<PackedBatch> batches{packer.finish()};
  const auto world = make_thread_communicators(1);
  const SystemClock clock;
  SftStep step(model, LayerWalk::Recompute::kNone, {192, 193}, {}, 10, *world[0], clock);
  step.gradients(batches);
  const at::Tensor gradients = model.arena.gradients.clone();
  for (const char* name :
       {"visual.patch_embed.proj.weight", "visual.blocks.0.attn.qkv.weight", "visual.blocks.1.norm2.weight",
        "visual.merger.mlp.2.bias", "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"}) {
    INFO(name);
    // Along the gradient itself: the slope is its squared norm, over the length.
    const ParameterInfo& info =
        model.arena.table.parameters[static_cast<std::size_t>(model.arena.table.by_name.at(name))];
    at::Tensor weights = model.arena.weights.narrow(0, info.offset, info.size);
    const at::Tensor gradient = gradients.narrow(0, info.offset, info.size);
    const double norm = gradient.norm().item<double>();
    const double length = 2e-2;
    weights.add_(gradient, length / norm);
    const double above = step.gradients(batches).reduced.loss;
    weights.sub_(gradient, 2 * length / norm);
    const double below = step.gradients(batches).reduced.loss;
    weights.add_(gradient, length / norm);
    CHECK((above - below) / (2 * length) == Approx(norm).epsilon(0.03));
  }
}

TEST_CASE("two ranks take the same supervised step as one") {
  const ModelConfig config = testing::tiny_config();
  std::vector<PackedBatch> batches;
  for (std::uint64_t i = 0; i < 4; ++i) {
    BatchPacker packer;
    packer.add_row(*testing::random_prompt(config, i, 4),
                   testing::random_answer(i, static_cast<std::int64_t>(4 + 3 * i)), false,
                   config.vision_tokens());
    batches.push_back(packer.finish());
  }
  OptimizerConfig optimizer;
  optimizer.learning_rate = 1e-3;
  const SystemClock clock;
  const auto train = [&](std::span<const PackedBatch> own, Communicator& communicator) {
    Model model = testing::random_model(config, 5, true);
    SftStep step(model, LayerWalk::Recompute::kNone, {}, optimizer, 4, communicator, clock);
    auto outcome = step.gradients(own);
    step.apply(outcome);
    return std::pair(outcome.reduced, model.arena.gradients.clone());
  };
  const auto alone = make_thread_communicators(1);
  const auto [expected, expected_gradients] = train(batches, *alone[0]);
  const auto pair = make_thread_communicators(2);
  std::vector<std::pair<StepUpdater::Reduced, at::Tensor>> results(2);
  {
    std::jthread other([&] { results[1] = train(std::span(batches).subspan(1), *pair[1]); });
    results[0] = train(std::span(batches).first(1), *pair[0]);
  }
  CHECK(at::equal(results[0].second, results[1].second));
  CHECK(results[0].first.loss == Approx(expected.loss).epsilon(1e-6));
  const double largest = expected_gradients.abs().max().item<double>();
  CHECK((results[0].second - expected_gradients).abs().max().item<double>() <= 1e-5 * largest);
}

}  // namespace ferro
