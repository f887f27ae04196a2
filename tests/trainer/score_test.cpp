#include "trainer/score.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "rollout/engine.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"

namespace ferro {

TEST_CASE("answers score the very bits that the engine sampled them with") {
  const testing::TinyJob job;
  const Model model = load_model(job.root() / "base", false);
  const Tokenizer tokenizer = Tokenizer::load(job.root() / "base");
  RolloutRequest request;
  request.sample_id = 5;
  request.num_generations = 3;
  KeyedRandom random(3, RandomPurpose::kTest, {});
  auto prompt = std::make_shared<Prompt>();
  for (int i = 0; i < 7; ++i) prompt->ids.push_back(static_cast<std::int32_t>(random.below(250)));
  prompt->positions = mrope_positions(prompt->ids, {}, model.config.vision_tokens());
  request.prompt = prompt;
  request.sampling.temperature = 0.7;
  request.sampling.max_completion_length = 12;
  request.sampling.stop_ids = model.config.stop_ids();
  request.sampling.banned_ids = banned_ids_of(model.config);
  RolloutEngine engine(model, tokenizer, {.seed = 1, .kv_cache_tokens = 512});
  engine.submit(request);
  const auto group = engine.receive();
  REQUIRE(group.has_value());

  std::vector<std::vector<std::int32_t>> answers;
  for (const Completion& completion : group->completions) answers.push_back(completion.token_ids);
  const auto scored = score_answers(model, *prompt, answers, 0.7);
  REQUIRE(scored.size() == 3);
  for (std::size_t i = 0; i < scored.size(); ++i) {
    CHECK(scored[i].token_ids == group->completions[i].token_ids);
    CHECK(scored[i].logprobs == group->completions[i].logprobs);
    CHECK(scored[i].entropies.size() == answers[i].size());
  }
  const auto hotter = score_answers(model, *prompt, answers, 1.4);
  CHECK(hotter[0].logprobs != scored[0].logprobs);
}

}  // namespace ferro
