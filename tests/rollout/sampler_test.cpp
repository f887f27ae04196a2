#include "rollout/sampler.h"

#include <cmath>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/keyed_random.h"
#include "model/ops.h"

namespace ferro {
namespace {

std::vector<float> random_logits(std::uint64_t seed, std::size_t size) {
  KeyedRandom random(seed, RandomPurpose::kTest, {size});
  std::vector<float> logits(size);
  for (float& logit : logits) logit = static_cast<float>(2 * random.normal());
  return logits;
}

SampledToken sample(std::vector<float> logits, const SamplingParams& params, std::int64_t sample_id,
                    std::int32_t position = 0, std::vector<std::int32_t> previous = {}) {
  return sample_token(logits, params, previous, 5, sample_id, 0, 0, position);
}

at::Tensor as_row(const std::vector<float>& logits) {
  return at::tensor(at::ArrayRef<float>(logits), at::kFloat).reshape({1, -1});
}

}  // namespace

TEST_CASE("a draw follows the running sum of the weights") {
  const std::vector<float> weights{0, 1, 0,
                                   2, 1, 0};  // Running sum of 4: (0, 1] is id 1, (1, 3] id 3, (3, 4] id 4.
  CHECK(draw(weights, 0.0) == 1);
  CHECK(draw(weights, 0.249) == 1);
  CHECK(draw(weights, 0.25) == 3);
  CHECK(draw(weights, 0.749) == 3);
  CHECK(draw(weights, 0.75) == 4);
  CHECK(draw(weights, std::nextafter(1.0, 0.0)) == 4);
}

TEST_CASE("a draw over many blocks agrees with the running sum") {
  KeyedRandom random(2, RandomPurpose::kTest, {1});
  std::vector<float> weights(1003);
  for (float& weight : weights)
    weight = random.below(3) == 0 ? 0.0F : static_cast<float>(random.below(16));  // Exact sums.
  double total = 0;
  for (const float weight : weights) total += static_cast<double>(weight);
  for (int i = 0; i < 2000; ++i) {
    const double uniform = random.uniform();
    double left = uniform * total;
    std::size_t expected = 0;
    while (left >= static_cast<double>(weights[expected])) left -= static_cast<double>(weights[expected++]);
    CHECK(draw(weights, uniform) == static_cast<std::int32_t>(expected));
  }
}

TEST_CASE("sampled tokens follow the softmax at the temperature") {
  const std::vector<float> logits = random_logits(1, 12);
  SamplingParams params;
  params.temperature = 0.7;
  const std::vector<float> expected = sampling_probabilities(logits, params, {});
  constexpr int kDraws = 20000;
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sample(logits, params, i).id)];
  for (std::size_t id = 0; id < logits.size(); ++id) {
    // Five standard deviations of a binomial share: one false alarm in 10^5 runs, and the draws are fixed.
    const double p = static_cast<double>(expected[id]);
    CHECK(std::abs(counts[id] / double{kDraws} - p) <= 5 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST_CASE("a token is a pure function of its key") {
  const std::vector<float> logits = random_logits(2, 300);
  const SamplingParams params;
  int differ = 0;
  for (std::int32_t position = 0; position < 50; ++position) {
    const SampledToken token = sample(logits, params, 3, position);
    CHECK(sample(logits, params, 3, position).id == token.id);
    differ += sample(logits, params, 4, position).id != token.id ? 1 : 0;
  }
  CHECK(differ > 25);
}

TEST_CASE("the log-prob is token_logprobs' of logits over temperature, whatever was truncated") {
  const std::vector<float> logits = random_logits(3, 300);
  for (const double temperature : {1.0, 0.6, 0.0}) {
    SamplingParams params;
    params.temperature = temperature;
    params.top_p = 0.5;
    params.top_k = 9;
    params.banned_ids = {7, 8};
    for (std::int64_t i = 0; i < 20; ++i) {
      const SampledToken token = sample(logits, params, i);
      at::Tensor row = as_row(logits);
      const std::vector<std::int32_t> ids{token.id};
      CHECK(token.logprob ==
            token_logprobs(row, ids, temperature == 0 ? 1.0 : temperature, params.banned_ids)[0].logprob);
    }
  }
}

TEST_CASE("a banned id is never sampled, not even by far the likeliest") {
  std::vector<float> logits = random_logits(4, 40);
  logits[11] = 1000;
  for (const double temperature : {1.0, 0.0}) {
    for (const std::int64_t top_k : {0, 3}) {
      SamplingParams params;
      params.temperature = temperature;
      params.top_k = top_k;
      params.banned_ids = {11};
      for (std::int64_t i = 0; i < 50; ++i) CHECK(sample(logits, params, i).id != 11);
      CHECK(sampling_probabilities(logits, params, {})[11] == 0);
    }
  }
}

TEST_CASE("temperature 0 takes the largest logit, the first of equals") {
  SamplingParams params;
  params.temperature = 0;
  CHECK(sample({0, 3, 1, 3}, params, 0).id == 1);
  params.repetition_penalty = 2;
  CHECK(sample({0, 3, 2, 2.5F}, params, 0, 0, {1, 1}).id == 3);  // 3 becomes 1.5, once.
  CHECK(sample({-1, -2}, params, 0, 0, {0}).id == 0);            // -1 becomes -2: a tie.
  CHECK(sample({-1, -1.5F}, params, 0, 0, {0}).id == 1);
}

TEST_CASE("min_p drops what is less likely than its share of the likeliest") {
  SamplingParams params;
  params.min_p = 0.3;
  // Weights 1, 0.5, 0.25: the last is below 0.3 of the first.
  const std::vector<float> p =
      sampling_probabilities(std::vector<float>{0.0F, std::log(0.5F), std::log(0.25F)}, params, {});
  CHECK(p[0] == Approx(1 / 1.5));
  CHECK(p[1] == Approx(0.5 / 1.5));
  CHECK(p[2] == 0);
}

TEST_CASE("rows are sampled as if each were alone") {
  std::vector<SamplingParams> params(4);
  params[1].temperature = 0.5;
  params[2].top_p = 0.8;
  params[3].temperature = 0;
  std::vector<std::vector<float>> logits;
  std::vector<SamplingRow> rows;
  std::vector<at::Tensor> tensors;
  for (std::int32_t i = 0; i < 90; ++i) {
    logits.push_back(random_logits(static_cast<std::uint64_t>(100 + i), 301));
    tensors.push_back(as_row(logits.back()));
    rows.push_back({&params[static_cast<std::size_t>(i / 20 % 4)], {}, {}, i, 1, i % 8, i});
  }
  const std::vector<SampledToken> together = sample_rows(at::cat(tensors), rows, 5);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SampledToken alone = sample_token(logits[i], *rows[i].params, {}, 5, rows[i].sample_id, 1,
                                            rows[i].generation, rows[i].position);
    CHECK(alone.id == together[i].id);
    CHECK(alone.logprob == together[i].logprob);
  }
}

TEST_CASE("logits that are not finite end the run as divergence") {
  for (const double temperature : {1.0, 0.0}) {
    SamplingParams params;
    params.temperature = temperature;
    try {
      sample({0, std::numeric_limits<float>::quiet_NaN(), 1}, params, 0);
      FAIL("not noticed");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kDivergence);
    }
  }
}

}  // namespace ferro
