#include "trainer/rollout_correction.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace ferro {
namespace {

struct Limits {
  bool per_sequence = false, mask = false;
  double least = 0, largest = std::numeric_limits<double>::infinity();

  explicit Limits(const RolloutCorrectionConfig& config) {
    const std::string& mode = config.vllm_importance_sampling_mode;
    per_sequence = mode == "sequence_truncate" || mode == "sequence_mask";
    mask = mode == "token_mask" || mode == "sequence_mask";
    if (!per_sequence && !mask && mode != "token_truncate")
      fail(
          ErrorCode::kConfig,
          "vllm_importance_sampling_mode is `{}`; it can be token_truncate, token_mask, sequence_truncate or "
          "sequence_mask",
          mode);
    least = config.vllm_importance_sampling_clip_min;
    if (config.vllm_importance_sampling_clip_max != 0) largest = config.vllm_importance_sampling_clip_max;
  }
  double apply(double ratio) const {
    if (ratio >= least && ratio <= largest) return ratio;
    if (mask) return 0;
    return ratio < least ? least : largest;
  }
};

// Mean, least and largest of some values.
struct Spread {
  double sum = 0, count = 0, least = std::numeric_limits<double>::infinity(), largest = -least;
  void add(double value) {
    sum += value;
    count += 1;
    least = std::min(least, value);
    largest = std::max(largest, value);
  }
};

}  // namespace

template <class Real>
RolloutCorrection<Real> rollout_correction(const RolloutCorrectionConfig& config,
                                           std::span<const std::int64_t> offsets, std::span<const Real> logps,
                                           std::span<const Real> sampled,
                                           std::span<const std::uint8_t> mask) {
  const Limits limits(config);
  RolloutCorrection<Real> out;
  if (sampled.empty()) return out;
  FERRO_CHECK(sampled.size() == logps.size() && !offsets.empty() &&
                  offsets.back() == static_cast<std::int64_t>(logps.size()) &&
                  (mask.empty() || mask.size() == logps.size()),
              "{} log-probs, {} of the sampler, mask {}", logps.size(), sampled.size(), mask.size());
  const bool correct = config.vllm_importance_sampling_correction;
  if (correct && !limits.per_sequence) out.token.resize(logps.size(), Real{1});
  Spread differences, ratios;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    double sum = 0;
    for (auto t = static_cast<std::size_t>(offsets[i]); t < static_cast<std::size_t>(offsets[i + 1]); ++t) {
      if (!mask.empty() && mask[t] == 0) continue;
      double difference = static_cast<double>(logps[t]) - static_cast<double>(sampled[t]);
      if (std::isnan(difference)) {
        difference = 0;
      } else {
        differences.add(std::abs(difference));
      }
      sum += difference;
      if (!correct || limits.per_sequence) continue;
      const double ratio = limits.apply(std::exp(difference));
      out.token[t] = static_cast<Real>(ratio);
      ratios.add(ratio);
    }
    if (!correct || !limits.per_sequence) continue;
    out.sequence.push_back(static_cast<Real>(limits.apply(std::exp(sum))));
    ratios.add(static_cast<double>(out.sequence.back()));
  }
  if (differences.count > 0) {
    add_to_mean(out.sums, "sampling/sampling_logp_difference/mean", differences.sum, differences.count);
    keep_largest(out.sums, "sampling/sampling_logp_difference/max", differences.largest);
  }
  if (ratios.count > 0) {
    add_to_mean(out.sums, "sampling/importance_sampling_ratio/mean", ratios.sum, ratios.count);
    keep_least(out.sums, "sampling/importance_sampling_ratio/min", ratios.least);
    keep_largest(out.sums, "sampling/importance_sampling_ratio/max", ratios.largest);
  }
  return out;
}

template RolloutCorrection<float> rollout_correction(const RolloutCorrectionConfig&,
                                                     std::span<const std::int64_t>, std::span<const float>,
                                                     std::span<const float>, std::span<const std::uint8_t>);
template RolloutCorrection<double> rollout_correction(const RolloutCorrectionConfig&,
                                                      std::span<const std::int64_t>, std::span<const double>,
                                                      std::span<const double>, std::span<const std::uint8_t>);

}  // namespace ferro
