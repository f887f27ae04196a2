#include "rollout/engine.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/rollout/tiny_model.h"

namespace ferro {
namespace {

using testing::tiny_prompt;
using testing::tiny_request;
using testing::tiny_tokenizer;

const Model& shared_model() {
  static const Model model = testing::tiny_model();
  return model;
}

std::map<std::int64_t, RolloutGroup> receive_all(RolloutEngine& engine) {
  std::map<std::int64_t, RolloutGroup> groups;
  while (auto group = engine.receive()) {
    const std::int64_t id = group->request.sample_id;
    REQUIRE(groups.emplace(id, std::move(*group)).second);
  }
  return groups;
}

}  // namespace

TEST_CASE("an answer ends at its first stop token, which it includes, or at its longest length") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.seed = 1});
  for (std::int64_t id = 0; id < 6; ++id)
    engine.submit(tiny_request(
        id, tiny_prompt(static_cast<std::uint64_t>(id), 5 + id, id % 2 == 0, model.config), 4, 12));
  int stopped = 0, cut = 0;
  const auto groups = receive_all(engine);
  CHECK(groups.size() == 6);
  for (const auto& [id, group] : groups) {
    REQUIRE(group.completions.size() == 4);
    const std::vector<std::int32_t>& stops = group.request.sampling.stop_ids;
    const auto stops_at = [&](std::int32_t token) {
      return std::find(stops.begin(), stops.end(), token) != stops.end();
    };
    for (const Completion& completion : group.completions) {
      REQUIRE_FALSE(completion.token_ids.empty());
      CHECK(completion.logprobs.size() == completion.token_ids.size());
      CHECK(std::none_of(completion.token_ids.begin(), completion.token_ids.end() - 1, stops_at));
      CHECK(completion.text == tiny_tokenizer().decode(completion.token_ids, true));
      const bool stop = stops_at(completion.token_ids.back());
      CHECK(completion.finish == (stop ? FinishReason::kStop : FinishReason::kLength));
      CHECK((stop || completion.token_ids.size() == 12));
      CHECK(completion.token_ids.size() <= 12);
      ++(stop ? stopped : cut);
    }
  }
  CHECK(stopped > 0);
  CHECK(cut > 0);
  CHECK_FALSE(engine.receive().has_value());
  CHECK_FALSE(engine.step());
}

TEST_CASE("banned ids are never part of an answer") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.seed = 2});
  RolloutRequest request = tiny_request(0, tiny_prompt(1, 9, true, model.config), 16, 24);
  request.sampling.stop_ids.clear();
  request.sampling.banned_ids.clear();
  for (std::int32_t id = 0; id < 300; ++id) {
    if (id % 7 != 0) request.sampling.banned_ids.push_back(id);
  }
  engine.submit(request);
  std::set<std::int32_t> seen;
  const RolloutGroup group = receive_all(engine).at(0);
  for (const Completion& completion : group.completions) {
    for (const std::int32_t token : completion.token_ids) CHECK(token % 7 == 0);
    seen.insert(completion.token_ids.begin(), completion.token_ids.end());
  }
  CHECK(seen.size() > 10);
}

TEST_CASE("greedy answers of a group are one and the same") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {});
  RolloutRequest request = tiny_request(0, tiny_prompt(3, 6, true, model.config), 3, 10);
  request.sampling.temperature = 0;
  engine.submit(request);
  const RolloutGroup group = receive_all(engine).at(0);
  for (const Completion& completion : group.completions) {
    CHECK(completion.token_ids == group.completions[0].token_ids);
    CHECK(completion.logprobs == group.completions[0].logprobs);
  }
}

TEST_CASE("sampled answers of a group differ, and differ by epoch and seed") {
  const Model& model = shared_model();
  const auto tokens = [&](std::uint64_t seed, std::int64_t epoch) {
    RolloutEngine engine(model, tiny_tokenizer(), {.seed = seed});
    RolloutRequest request = tiny_request(0, tiny_prompt(3, 6, false, model.config), 2, 10);
    request.epoch = epoch;
    engine.submit(request);
    std::vector<std::vector<std::int32_t>> result;
    const RolloutGroup group = receive_all(engine).at(0);
    for (const Completion& completion : group.completions) result.push_back(completion.token_ids);
    return result;
  };
  const auto answers = tokens(1, 0);
  CHECK(answers[0] != answers[1]);
  CHECK(tokens(1, 0) == answers);
  CHECK(tokens(1, 1) != answers);
  CHECK(tokens(2, 0) != answers);
}

TEST_CASE("the sinks see every token, in the order of each answer, after its logits") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.seed = 4});
  std::map<std::pair<std::int64_t, std::int32_t>, std::vector<std::int32_t>> seen;
  std::map<std::pair<std::int64_t, std::int32_t>, std::size_t> rows_of_logits;
  engine.set_logits_sink([&](std::int64_t sample, std::int32_t generation, std::span<const float> logits) {
    CHECK(logits.size() == 300);
    CHECK(rows_of_logits[{sample, generation}]++ == seen[{sample, generation}].size());
  });
  engine.set_token_sink([&](std::int64_t sample, std::int32_t generation, std::int32_t token) {
    seen[{sample, generation}].push_back(token);
  });
  for (std::int64_t id = 0; id < 3; ++id)
    engine.submit(
        tiny_request(id, tiny_prompt(static_cast<std::uint64_t>(id), 7, false, model.config), 3, 9));
  std::int64_t total = 0;
  for (const auto& [id, group] : receive_all(engine)) {
    for (std::int32_t generation = 0; generation < 3; ++generation) {
      const Completion& completion = group.completions[static_cast<std::size_t>(generation)];
      CHECK(seen.at({id, generation}) == completion.token_ids);
      CHECK(rows_of_logits.at({id, generation}) == completion.token_ids.size());
      total += static_cast<std::int64_t>(completion.token_ids.size());
    }
  }
  CHECK(engine.stats().completion_tokens == total);
  CHECK(engine.stats().prompt_tokens == 21);
  CHECK(engine.stats().decode_steps > 0);
}

TEST_CASE("groups that do not fit together wait for rows, and all are answered") {
  const Model& model = shared_model();
  // 8 prompt tokens and 3 answers of up to 10: 8 + 3 * 9 = 35 rows; two groups do not fit into 60.
  RolloutEngine engine(model, tiny_tokenizer(),
                       {.seed = 5, .kv_cache_tokens = 60, .max_running_sequences = 512, .prefill_tokens = 1});
  for (std::int64_t id = 0; id < 9; ++id)
    engine.submit(
        tiny_request(id, tiny_prompt(static_cast<std::uint64_t>(id), 8, false, model.config), 3, 10));
  CHECK(receive_all(engine).size() == 9);
}

TEST_CASE("no more sequences run than allowed") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.seed = 5, .max_running_sequences = 7});
  std::set<std::pair<std::int64_t, std::int32_t>> alive;
  std::map<std::pair<std::int64_t, std::int32_t>, int> left;
  for (std::int64_t id = 0; id < 5; ++id) {
    RolloutRequest request =
        tiny_request(id, tiny_prompt(static_cast<std::uint64_t>(id), 4, false, model.config), 3, 5);
    request.sampling.stop_ids.clear();
    engine.submit(request);
    for (std::int32_t generation = 0; generation < 3; ++generation) left[{id, generation}] = 5;
  }
  engine.set_token_sink([&](std::int64_t sample, std::int32_t generation, std::int32_t) {
    alive.insert({sample, generation});
    CHECK(alive.size() <= 7);
    if (--left[{sample, generation}] == 0) alive.erase({sample, generation});
  });
  CHECK(receive_all(engine).size() == 5);
}

TEST_CASE("an answer of one token takes no rows of its own") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.kv_cache_tokens = 6});
  engine.submit(tiny_request(0, tiny_prompt(1, 6, false, model.config), 8, 1));
  const RolloutGroup group = receive_all(engine).at(0);
  for (const Completion& completion : group.completions) CHECK(completion.token_ids.size() == 1);
}

TEST_CASE("answers carry the policy version they began under, which cannot change meanwhile") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {});
  engine.set_policy_version(3);
  RolloutRequest request = tiny_request(0, tiny_prompt(1, 6, false, model.config), 2, 6);
  request.sampling.stop_ids.clear();
  engine.submit(request);
  REQUIRE(engine.step());
  CHECK_THROWS_AS(engine.set_policy_version(4), Error);
  const RolloutGroup group = receive_all(engine).at(0);
  for (const Completion& completion : group.completions) CHECK(completion.policy_version == 3);
  engine.set_policy_version(4);
}

TEST_CASE("what can never run is refused when it is submitted") {
  const Model& model = shared_model();
  RolloutEngine engine(model, tiny_tokenizer(), {.kv_cache_tokens = 100, .max_running_sequences = 8});
  const auto refused = [&](auto change) -> std::string {
    RolloutRequest request = tiny_request(77, tiny_prompt(1, 10, false, model.config), 4, 10);
    change(request);
    try {
      engine.submit(request);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kConfig);
      return error.what();
    }
    return "";
  };
  CHECK(refused([](RolloutRequest&) {}).empty());
  // 10 + 4 * 29 = 126 rows.
  const std::string message = refused([](RolloutRequest& r) { r.sampling.max_completion_length = 30; });
  CHECK(message.find("sample 77") != std::string::npos);
  CHECK(message.find("126") != std::string::npos);
  CHECK(message.find("100") != std::string::npos);
  CHECK_FALSE(refused([](RolloutRequest& r) { r.num_generations = 9; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.num_generations = 0; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.sampling.max_completion_length = 0; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.sampling.banned_ids = {300}; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.sampling.stop_ids = {-1}; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.sampling.top_p = 0; }).empty());
  CHECK_FALSE(refused([](RolloutRequest& r) { r.sampling.temperature = -1; }).empty());
}

}  // namespace ferro
