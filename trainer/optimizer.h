#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/aten.h"
#include "trainer/optimizer_config.h"

namespace ferro {

/// Learning rate of step `step` (from 0) of `total_steps`. Same values as transformers.get_scheduler: step 0
/// of a warm-up has rate 0.
double learning_rate_at(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps);

/// Whether a parameter decays under `decay_parameters`.
bool parameter_decays(const ParameterInfo& parameter, const std::string& decay_parameters);

/// AdamW over the flat buffers (torch.optim.AdamW's arithmetic). Rates and decay are ranges of the buffer.
/// fp32 moments.
class AdamW {
 public:
  AdamW(const ArenaTable& table, const OptimizerConfig& config);
  /// Norm of all gradients (fp64 sum over blocks in order: same bits at any thread count).
  double gradient_norm(const at::Tensor& gradients) const;
  /// clip factor max_norm / (norm + 1e-6) when norm > max_norm, folded into the update; then one AdamW step
  /// at `learning_rate`.
  void step(at::Tensor& weights, const at::Tensor& gradients, double learning_rate, double gradient_norm);
  std::int64_t steps_done() const { return steps_done_; }
  const at::Tensor& first_moment() const { return first_moment_; }
  const at::Tensor& second_moment() const { return second_moment_; }

 private:
  struct Range {
    std::int64_t begin, end;
    double weight_decay;
  };
  OptimizerConfig config_;
  std::int64_t size_;
  std::vector<Range> ranges_;
  at::Tensor first_moment_, second_moment_;
  std::int64_t steps_done_ = 0;
};

}  // namespace ferro
