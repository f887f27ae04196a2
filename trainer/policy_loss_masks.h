#pragma once

#include <cstddef>
#include <optional>

#include "trainer/policy_loss.h"

namespace ferro {

/// Error{kInternal}: spans that do not fit each other, or that the configuration needs and are absent.
template <class Real>
void check_policy_inputs(const PolicyLossConfig& config, const PolicyLossInputs<Real>& in);

/// The (1 - top_quantile) quantile of the trained tokens' entropies, linearly interpolated: tokens below it
/// lose their policy term. Empty: all are kept. Source: Wang et al., "Beyond the 80/20 Rule",
/// arXiv 2506.01939.
template <class Real>
std::optional<double> least_kept_entropy(const PolicyLossInputs<Real>& in, double top_quantile);

/// Whether sequence i has a negative advantage and a mean of (sampling - logp) over its trained tokens above
/// `threshold` (0: never). Source: DeepSeek-V3.2, arXiv 2512.02556.
template <class Real>
bool is_off_policy(const PolicyLossInputs<Real>& in, std::size_t i, double threshold);

}  // namespace ferro
