#include "rollout/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/keyed_random.h"
#include "model/ops.h"

namespace ferro {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

void penalise(std::vector<float>& scores, double penalty, std::span<const std::int32_t> previous,
              std::vector<std::uint8_t>& seen) {
  const auto factor = static_cast<float>(penalty);
  seen.resize(scores.size(), 0);
  for (const std::int32_t id : previous) {
    const auto i = static_cast<std::size_t>(id);
    if (i >= scores.size() || seen[i] != 0) continue;
    seen[i] = 1;
    scores[i] = scores[i] < 0 ? scores[i] * factor : scores[i] / factor;
  }
}

/// What every processor before temperature does to a row. `previous` comes in two parts.
std::vector<float> penalised_scores(std::span<const float> logits, const SamplingParams& params,
                                    std::span<const std::int32_t> prompt,
                                    std::span<const std::int32_t> answer) {
  std::vector<float> scores(logits.begin(), logits.end());
  if (params.repetition_penalty != 1.0) {
    std::vector<std::uint8_t> seen;
    penalise(scores, params.repetition_penalty, prompt, seen);
    penalise(scores, params.repetition_penalty, answer, seen);
  }
  for (const std::int32_t id : params.banned_ids) scores[static_cast<std::size_t>(id)] = kMasked;
  return scores;
}

std::int32_t arg_max(std::span<const float> scores) {
  return static_cast<std::int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

std::vector<double> softmax(std::span<const float> scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> result(scores.size());
  double sum = 0;
  for (std::size_t i = 0; i < scores.size(); ++i)
    sum += result[i] = std::exp(static_cast<double>(scores[i]) - largest);
  for (double& p : result) p /= sum;
  return result;
}

/// Keeps the k largest and whatever equals the k-th.
void keep_top_k(std::vector<float>& scores, std::int64_t k) {
  const auto rank =
      static_cast<std::size_t>(std::min<std::int64_t>(k, static_cast<std::int64_t>(scores.size())) - 1);
  std::vector<float> sorted = scores;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rank), sorted.end(),
                   std::greater<>());
  const float threshold = sorted[rank];
  for (float& score : scores) score = score < threshold ? kMasked : score;
}

/// Drops the smallest while the sum of what is dropped stays within 1 - top_p; the largest always stays.
void keep_top_p(std::vector<float>& scores, double top_p) {
  const std::vector<double> probabilities = softmax(scores);
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double sum = 0;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    sum += probabilities[order[i]];
    if (sum > 1.0 - top_p) break;
    scores[order[i]] = kMasked;
  }
}

void keep_min_p(std::vector<float>& scores, double min_p) {
  const std::vector<double> probabilities = softmax(scores);
  const double threshold = min_p * *std::max_element(probabilities.begin(), probabilities.end());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (probabilities[i] < threshold) scores[i] = kMasked;
  }
}

std::vector<float> processed_probabilities(std::vector<float> scores, const SamplingParams& params) {
  if (params.temperature == 0) {
    const auto best = static_cast<std::size_t>(arg_max(scores));
    std::fill(scores.begin(), scores.end(), 0.0F);
    scores[best] = 1;
    return scores;
  }
  const auto temperature = static_cast<float>(params.temperature);
  for (float& score : scores) score /= temperature;
  if (params.top_k > 0) keep_top_k(scores, params.top_k);
  if (params.top_p < 1) keep_top_p(scores, params.top_p);
  if (params.min_p > 0) keep_min_p(scores, params.min_p);
  const std::vector<double> probabilities = softmax(scores);
  std::transform(probabilities.begin(), probabilities.end(), scores.begin(),
                 [](double p) { return static_cast<float>(p); });
  return scores;
}

/// Samples from the whole distribution: the probabilities of token_logprobs are all it takes.
bool is_plain(const SamplingParams& params) {
  return params.temperature > 0 && params.top_k == 0 && params.top_p >= 1 && params.min_p == 0 &&
         params.repetition_penalty == 1;
}

double logprob_temperature(const SamplingParams& params) {
  return params.temperature == 0 ? 1.0 : params.temperature;
}

bool share_a_distribution(const SamplingParams& a, const SamplingParams& b) {
  return &a == &b || (a.temperature == b.temperature && a.banned_ids == b.banned_ids);
}

std::int32_t choose(std::span<const float> logits, std::span<const float> probabilities,
                    const SamplingRow& row, std::uint64_t seed) {
  const SamplingParams& params = *row.params;
  const auto uniform = [&] {
    return KeyedRandom(seed, RandomPurpose::kSampling,
                       {static_cast<std::uint64_t>(row.sample_id), static_cast<std::uint64_t>(row.epoch),
                        static_cast<std::uint64_t>(row.generation), static_cast<std::uint64_t>(row.position)})
        .uniform();
  };
  if (is_plain(params)) return draw(probabilities, uniform());
  std::vector<float> scores = penalised_scores(logits, params, row.prompt, row.answer);
  if (params.temperature == 0) return arg_max(scores);
  return draw(processed_probabilities(std::move(scores), params), uniform());
}

/// Rows that share temperature and banned ids: one pass for the probabilities to draw from, one for the
/// log-probs of what was drawn.
void sample_run(at::Tensor logits_NV, std::span<const SamplingRow> rows, std::uint64_t seed,
                std::span<SampledToken> out) {
  const SamplingParams& params = *rows.front().params;
  const double temperature = logprob_temperature(params);
  std::vector<std::int32_t> ids(rows.size(), 0);
  at::Tensor probabilities_NV = logits_NV;
  const bool any_plain =
      std::any_of(rows.begin(), rows.end(), [](const SamplingRow& row) { return is_plain(*row.params); });
  if (any_plain) {
    probabilities_NV = logits_NV.clone();
    token_logprobs(probabilities_NV, ids, temperature, params.banned_ids);
  }
  const at::Tensor host_logits_NV = logits_NV.cpu(), host_probabilities_NV = probabilities_NV.cpu();
  const auto vocabulary = static_cast<std::size_t>(logits_NV.size(1));
  const float* logits = host_logits_NV.const_data_ptr<float>();
  const float* probabilities = host_probabilities_NV.const_data_ptr<float>();
  at::parallel_for(0, static_cast<std::int64_t>(rows.size()), 8, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      ids[i] = choose({logits + i * vocabulary, vocabulary}, {probabilities + i * vocabulary, vocabulary},
                      rows[i], seed);
    }
  });
  const std::vector<TokenLogprob> logprobs = token_logprobs(logits_NV, ids, temperature, params.banned_ids);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!std::isfinite(logprobs[i].logprob))
      fail(ErrorCode::kDivergence, "log-prob {} of token {} of sample {}: the model's logits are not finite",
           logprobs[i].logprob, ids[i], rows[i].sample_id);
    out[i] = {ids[i], logprobs[i].logprob};
  }
}

}  // namespace

std::vector<float> sampling_probabilities(std::span<const float> logits_V, const SamplingParams& params,
                                          std::span<const std::int32_t> previous) {
  return processed_probabilities(penalised_scores(logits_V, params, previous, {}), params);
}

std::int32_t draw(std::span<const float> weights, double uniform) {
  constexpr std::size_t kBlock = 64, kLanes = 8;
  const auto block_sum = [&](std::size_t begin) {
    double lanes[kLanes] = {};
    const std::size_t end = std::min(begin + kBlock, weights.size());
    std::size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<double>(weights[i + lane]);
    }
    for (; i < end; ++i) lanes[0] += static_cast<double>(weights[i]);
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  };
  double total = 0;
  for (std::size_t begin = 0; begin < weights.size(); begin += kBlock) total += block_sum(begin);
  if (!(total > 0 && std::isfinite(total)))
    fail(ErrorCode::kDivergence,
         "the probabilities of {} tokens add up to {}: the model's logits are not finite", weights.size(),
         total);
  double left = uniform * total;
  std::size_t last_positive = 0;
  for (std::size_t begin = 0; begin < weights.size(); begin += kBlock) {
    const double sum = block_sum(begin);
    if (sum == 0) continue;
    const bool here = left < sum;
    for (std::size_t i = begin; i < std::min(begin + kBlock, weights.size()); ++i) {
      if (weights[i] == 0) continue;
      last_positive = i;
      if (!here) continue;
      left -= static_cast<double>(weights[i]);
      if (left < 0) return static_cast<std::int32_t>(i);
    }
    if (here) break;  // Rounding only: the block's sum was passed, its running sum not quite.
    left -= sum;
  }
  return static_cast<std::int32_t>(last_positive);
}

std::vector<SampledToken> sample_rows(at::Tensor logits_NV, std::span<const SamplingRow> rows,
                                      std::uint64_t seed) {
  FERRO_CHECK(logits_NV.dim() == 2 && logits_NV.size(0) == static_cast<std::int64_t>(rows.size()),
              "{} rows for {} rows of logits", rows.size(), logits_NV.size(0));
  std::vector<SampledToken> tokens(rows.size());
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    while (end < rows.size() && share_a_distribution(*rows[begin].params, *rows[end].params)) ++end;
    const at::Tensor run =
        logits_NV.narrow(0, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end - begin));
    sample_run(run, rows.subspan(begin, end - begin), seed, std::span(tokens).subspan(begin, end - begin));
  }
  return tokens;
}

SampledToken sample_token(std::span<float> logits_V, const SamplingParams& params,
                          std::span<const std::int32_t> previous, std::uint64_t seed, std::int64_t sample_id,
                          std::int64_t epoch, std::int32_t generation, std::int32_t position) {
  const SamplingRow row{&params, previous, {}, sample_id, epoch, generation, position};
  const at::Tensor logits =
      at::from_blob(logits_V.data(), {1, static_cast<std::int64_t>(logits_V.size())}, at::kFloat);
  return sample_rows(logits, {&row, 1}, seed).front();
}

}  // namespace ferro
