// Log-prob and entropy of one token per row of logits.
#include <omp.h>

#include "model/kernels/isa.h"
#include "model/kernels/vector_math.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kBlock =
    512;  // Logits whose exponentials are summed in fp32 before they join the row's sums in double.
constexpr float kFloor =
    -200.0f;  // Below every logit whose exponential is not zero: keeps 0 * -inf out of the entropy.

FERRO_INLINE Vec get(const float* p, int n, float rest) {
  return n == kLanes ? load(p) : keep_first(load_first(p, n), n, rest);
}
FERRO_INLINE void put(float* p, int n, Vec v) {
  n == kLanes ? store(p, v) : store_first(p, n, v);
}
FERRO_INLINE int lanes_at(std::int64_t i, std::int64_t n) {
  return n - i < kLanes ? static_cast<int>(n - i) : kLanes;
}

/// Divides by the temperature in place; the largest value.
float scale_row(float* row, std::int64_t n, float temperature) {
  const float lowest = -__builtin_inff();
  const Vec by = broadcast(temperature);
  Vec best = broadcast(lowest);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int count = lanes_at(i, n);
    const Vec z = get(row + i, count, lowest) / by;
    put(row + i, count, z);
    best = max(best, z);
  }
  return max_lanes(best);
}

struct Sums {
  double exponentials = 0, weighted = 0;  ///< sum e, sum e (z - top)
};

Sums exponentials(float* row, std::int64_t n, float top) {
  const Vec shift = broadcast(top), floor = broadcast(kFloor);
  Sums sums;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = begin + kBlock < n ? begin + kBlock : n;
    Vec sum = zero(), weighted = zero();
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const int count = lanes_at(i, end);
      const Vec z = max(floor, get(row + i, count, -__builtin_inff()) - shift);
      const Vec e = exp(z);
      put(row + i, count, e);
      sum = sum + e;
      weighted = fma(e, z, weighted);
    }
    sums.exponentials += static_cast<double>(sum_lanes(sum));
    sums.weighted += static_cast<double>(sum_lanes(weighted));
  }
  return sums;
}

/// Logits of one row become probabilities, with the results of `count` tokens.
void token_row(float* row, std::int64_t n, float temperature, const std::int32_t* tokens, std::int64_t count,
               TokenRow* results) {
  const float top = scale_row(row, n, temperature);
  for (std::int64_t i = 0; i < count; ++i) {
    results[i].logprob = row[tokens[i]];
    results[i].is_largest = row[tokens[i]] == top;
  }
  const Sums sums = exponentials(row, n, top);
  const double log_sum = __builtin_log(sums.exponentials);
  const auto entropy = static_cast<float>(log_sum - sums.weighted / sums.exponentials);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto scaled = static_cast<double>(results[i].logprob);
    results[i].logprob = static_cast<float>(scaled - static_cast<double>(top) - log_sum);
    results[i].entropy = entropy;
  }
  const Vec by = broadcast(static_cast<float>(1.0 / sums.exponentials));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const int lanes = lanes_at(i, n);
    put(row + i, lanes, get(row + i, lanes, 0.0f) * by);
  }
}

void token_logprobs(Matrix logits, const std::int32_t* tokens, const std::int32_t* begins, float temperature,
                    const std::int32_t* banned, std::int64_t num_banned, TokenRow* results, int threads) {
  if (logits.rows * logits.cols < 32768) threads = 1;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    float* row = logits.data + r * logits.stride;
    for (std::int64_t i = 0; i < num_banned; ++i) row[banned[i]] = -__builtin_inff();
    const std::int64_t first = begins == nullptr ? r : begins[r];
    const std::int64_t end = begins == nullptr ? r + 1 : begins[r + 1];
    token_row(row, logits.cols, temperature, tokens + first, end - first, results + first);
  }
}

}  // namespace

void add_softmax(Kernels& table) {
  table.token_logprobs = token_logprobs;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
