#include <map>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <catch2/catch.hpp>

#include "data/packing.h"
#include "model/ops.h"
#include "model/qwen.h"
#include "rollout/engine.h"
#include "tests/rollout/tiny_model.h"

namespace ferro {
namespace {

using testing::tiny_prompt;
using testing::tiny_request;
using testing::tiny_tokenizer;

/// Prompts of many lengths, with and without images; some requests greedy, truncated, or at another
/// temperature.
std::vector<RolloutRequest> requests(const ModelConfig& config) {
  std::vector<RolloutRequest> result;
  for (std::int64_t id = 0; id < 14; ++id) {
    const auto prompt = tiny_prompt(static_cast<std::uint64_t>(50 + id), 3 + 11 * id, id % 3 != 0, config);
    RolloutRequest request = tiny_request(id, prompt, static_cast<std::int32_t>(1 + id % 4), 5 + 3 * id);
    if (id % 2 == 0) request.sampling.stop_ids.resize(2);
    if (id % 5 == 1) request.sampling.temperature = 0.6;
    if (id % 5 == 2) request.sampling.temperature = 0;
    if (id % 5 == 3) request.sampling.top_p = 0.9;
    if (id % 5 == 4) request.sampling.repetition_penalty = 1.3;
    result.push_back(std::move(request));
  }
  return result;
}

std::map<std::int64_t, RolloutGroup> run(const Model& model, const std::vector<RolloutRequest>& batch,
                                         EngineOptions options) {
  options.seed = 11;
  RolloutEngine engine(model, tiny_tokenizer(), options);
  for (const RolloutRequest& request : batch) engine.submit(request);
  std::map<std::int64_t, RolloutGroup> groups;
  while (auto group = engine.receive()) groups[group->request.sample_id] = std::move(*group);
  return groups;
}

void check_same(const RolloutGroup& a, const RolloutGroup& b) {
  REQUIRE(a.completions.size() == b.completions.size());
  for (std::size_t i = 0; i < a.completions.size(); ++i) {
    CHECK(a.completions[i].token_ids == b.completions[i].token_ids);
    CHECK(a.completions[i].logprobs == b.completions[i].logprobs);
  }
}

std::vector<std::vector<std::int32_t>> answers_of(const RolloutGroup& group) {
  std::vector<std::vector<std::int32_t>> answers;
  for (const Completion& completion : group.completions) answers.push_back(completion.token_ids);
  return answers;
}

/// Log-probs of a packed batch's targets by the trainer's forward, per sequence.
std::vector<std::vector<float>> trainer_logprobs(const Model& model, const PackedBatch& batch,
                                                 const SamplingParams& sampling) {
  const at::NoGradGuard no_grad;
  const at::Tensor hidden_TD = text_forward(model.weights, batch, model.config);
  std::vector<std::int64_t> rows;
  std::vector<std::int32_t> tokens;
  for (const Target& target : batch.targets) {
    rows.push_back(target.row);
    tokens.push_back(target.token);
  }
  at::Tensor logits = linear(hidden_TD.index_select(0, at::tensor(rows, at::kLong)), model.weights.head);
  const double temperature = sampling.temperature == 0 ? 1.0 : sampling.temperature;
  const std::vector<TokenLogprob> values = token_logprobs(logits, tokens, temperature, sampling.banned_ids);
  std::vector<std::vector<float>> result(static_cast<std::size_t>(batch.num_sequences));
  for (std::size_t i = 0; i < values.size(); ++i)
    result[static_cast<std::size_t>(batch.targets[i].sequence)].push_back(values[i].logprob);
  return result;
}

class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(at::get_num_threads()) { at::set_num_threads(threads); }
  ~ThreadCount() { at::set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

}  // namespace

TEST_CASE("an answer and its log-probs have the same bits alone and in a crowd, whatever the limits") {
  const Model model = testing::tiny_model();
  const std::vector<RolloutRequest> batch = requests(model.config);
  const auto crowd = run(model, batch, {});
  REQUIRE(crowd.size() == batch.size());
  for (const RolloutRequest& request : batch)
    check_same(run(model, {request}, {}).at(request.sample_id), crowd.at(request.sample_id));
  const auto narrow =
      run(model, batch, {.kv_cache_tokens = 420, .max_running_sequences = 5, .prefill_tokens = 40});
  const auto one_by_one =
      run(model, batch, {.kv_cache_tokens = 333, .max_running_sequences = 4, .prefill_tokens = 1});
  const std::vector<RolloutRequest> reversed(batch.rbegin(), batch.rend());
  const auto backwards = run(model, reversed, {.max_running_sequences = 20});
  for (const RolloutRequest& request : batch) {
    check_same(narrow.at(request.sample_id), crowd.at(request.sample_id));
    check_same(one_by_one.at(request.sample_id), crowd.at(request.sample_id));
    check_same(backwards.at(request.sample_id), crowd.at(request.sample_id));
  }
}

TEST_CASE("answers have the same bits at any number of threads") {
  const Model model = testing::tiny_model();
  const std::vector<RolloutRequest> batch = requests(model.config);
  const auto usual = run(model, batch, {});
  for (const int threads : {1, 2, 3}) {
    const ThreadCount count(threads);
    for (const auto& [id, group] : run(model, batch, {})) check_same(group, usual.at(id));
  }
}

TEST_CASE("a sampled token's log-prob equals the trainer's packed forward bit for bit") {
  const Model model = testing::tiny_model();
  const auto groups =
      run(model, requests(model.config), {.kv_cache_tokens = 2000, .max_running_sequences = 9});
  std::size_t compared = 0;
  for (const auto& [id, group] : groups) {
    BatchPacker packer;
    packer.add_group(*group.request.prompt, answers_of(group));
    const auto expected = trainer_logprobs(model, packer.finish(), group.request.sampling);
    for (std::size_t i = 0; i < group.completions.size(); ++i) {
      CHECK(group.completions[i].logprobs == expected[i]);
      compared += expected[i].size();
    }
  }
  CHECK(compared > 300);
}

TEST_CASE("it equals a forward of many groups packed together, and of each answer as a row of its own") {
  const Model model = testing::tiny_model();
  const SamplingParams plain = tiny_request(0, nullptr, 1, 1).sampling;
  std::vector<RolloutRequest> batch = requests(model.config);
  for (RolloutRequest& request : batch) request.sampling.temperature = plain.temperature;
  const auto groups = run(model, batch, {});
  BatchPacker together;
  for (const auto& [id, group] : groups) together.add_group(*group.request.prompt, answers_of(group));
  const auto packed = trainer_logprobs(model, together.finish(), plain);
  std::size_t sequence = 0;
  for (const auto& [id, group] : groups) {
    for (const Completion& completion : group.completions) {
      CHECK(completion.logprobs == packed[sequence++]);
      BatchPacker row;
      row.add_row(*group.request.prompt, completion.token_ids, false, model.config.vision_tokens());
      CHECK(completion.logprobs == trainer_logprobs(model, row.finish(), plain)[0]);
    }
  }
}

}  // namespace ferro
