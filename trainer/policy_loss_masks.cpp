#include "trainer/policy_loss_masks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"

namespace ferro {

template <class Real>
void check_policy_inputs(const PolicyLossConfig& config, const PolicyLossInputs<Real>& in) {
  const std::size_t n = in.logps.size(), sequences = in.advantages.size();
  const auto fits = [n](std::size_t size) { return size == 0 || size == n; };
  FERRO_CHECK(
      !in.offsets.empty() && in.offsets.front() == 0 && in.offsets.back() == static_cast<std::int64_t>(n),
      "{} offsets for {} tokens", in.offsets.size(), n);
  FERRO_CHECK(sequences + 1 == in.offsets.size(), "{} advantages for {} sequences", sequences,
              in.offsets.size() - 1);
  FERRO_CHECK(fits(in.old_logps.size()) && fits(in.ref_logps.size()) && fits(in.entropies.size()) &&
                  fits(in.mask.size()),
              "{} tokens; old {}, reference {}, entropies {}, mask {}", n, in.old_logps.size(),
              in.ref_logps.size(), in.entropies.size(), in.mask.size());
  FERRO_CHECK(fits(in.sampling_logps.size()) && fits(in.token_correction.size()),
              "{} tokens; sampler's {}, correction {}", n, in.sampling_logps.size(),
              in.token_correction.size());
  FERRO_CHECK(in.sequence_correction.empty() ||
                  (in.sequence_correction.size() == sequences && in.token_correction.empty()),
              "{} sequence corrections for {} sequences, {} of tokens", in.sequence_correction.size(),
              sequences, in.token_correction.size());
  FERRO_CHECK(config.beta == 0 || n == 0 || !in.ref_logps.empty(), "beta {} without reference log-probs",
              config.beta);
  FERRO_CHECK(
      (config.entropy_coef == 0 && config.top_entropy_quantile >= 1) || n == 0 || !in.entropies.empty(),
      "entropy_coef {} and top_entropy_quantile {} without entropies", config.entropy_coef,
      config.top_entropy_quantile);
}

template <class Real>
std::optional<double> least_kept_entropy(const PolicyLossInputs<Real>& in, double top_quantile) {
  if (top_quantile >= 1) return std::nullopt;
  std::vector<double> entropies;
  for (std::size_t t = 0; t < in.entropies.size(); ++t)
    if (in.mask.empty() || in.mask[t] != 0) entropies.push_back(static_cast<double>(in.entropies[t]));
  if (entropies.empty()) return std::nullopt;
  std::sort(entropies.begin(), entropies.end());
  double place = (1 - top_quantile) * static_cast<double>(entropies.size() - 1);
  // 1 - 0.2 is not 0.8: a place that is whole but for rounding is that token's.
  if (std::abs(place - std::round(place)) < 1e-9 * static_cast<double>(entropies.size()))
    place = std::round(place);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, entropies.size() - 1);
  const double share = place - static_cast<double>(below);
  if (share == 0) return entropies[below];
  return entropies[below] + share * (entropies[above] - entropies[below]);
}

template <class Real>
bool is_off_policy(const PolicyLossInputs<Real>& in, std::size_t i, double threshold) {
  const std::span<const Real> then = in.sampling_logps.empty() ? in.old_logps : in.sampling_logps;
  if (threshold == 0 || then.empty() || in.advantages[i] >= 0) return false;
  double sum = 0, count = 0;
  for (auto t = static_cast<std::size_t>(in.offsets[i]); t < static_cast<std::size_t>(in.offsets[i + 1]);
       ++t) {
    if (!in.mask.empty() && in.mask[t] == 0) continue;
    sum += static_cast<double>(then[t]) - static_cast<double>(in.logps[t]);
    count += 1;
  }
  return sum / std::max(count, 1.0) > threshold;
}

template void check_policy_inputs(const PolicyLossConfig&, const PolicyLossInputs<float>&);
template void check_policy_inputs(const PolicyLossConfig&, const PolicyLossInputs<double>&);
template std::optional<double> least_kept_entropy(const PolicyLossInputs<float>&, double);
template std::optional<double> least_kept_entropy(const PolicyLossInputs<double>&, double);
template bool is_off_policy(const PolicyLossInputs<float>&, std::size_t, double);
template bool is_off_policy(const PolicyLossInputs<double>&, std::size_t, double);

}  // namespace ferro
