#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/config_visitor.h"
#include "model/arena.h"
#include "model/aten.h"

namespace ferro {

struct OptimizerConfig {
  double learning_rate = 1e-6;
  std::string lr_scheduler_type = "cosine";
  std::int64_t warmup_steps = 0;
  double weight_decay = 0.0;
  std::string decay_parameters = "huggingface";
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("learning_rate", learning_rate, {.min = 0.0, .max = 10.0}, "Peak learning rate.");
    v.field("lr_scheduler_type", lr_scheduler_type, Choices{"cosine", "linear", "constant"}, "Shape after warm-up: to 0 over the run, or constant.");
    v.field("warmup_steps", warmup_steps, {.min = 0, .max = 1'000'000'000}, "Steps of linear warm-up from 0.");
    v.field("weight_decay", weight_decay, {.min = 0.0, .max = 10.0}, "Decoupled weight decay (times the learning rate).");
    v.field("decay_parameters", decay_parameters, Choices{"huggingface", "matrices"},
            "What decays: by name as Hugging Face does (the vision tower's norm1, norm2 and ln_q too), or matrices only.");
    v.field("adam_beta1", adam_beta1, {.min = 0.0, .max = 1.0}, "Decay of the first moment.");
    v.field("adam_beta2", adam_beta2, {.min = 0.0, .max = 1.0}, "Decay of the second moment.");
    v.field("adam_epsilon", adam_epsilon, {.min = 0.0, .max = 1.0}, "Added to the root of the second moment.");
    v.field("max_grad_norm", max_grad_norm, {.min = 0.0, .max = 1e9}, "Gradients are scaled down to this global norm; 0: never.");
  }
};

/// Learning rate of step `step` (from 0) of `total_steps`. Same values as transformers.get_scheduler: step 0 of a warm-up has rate 0.
double learning_rate_at(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps);

/// Whether a parameter decays under `decay_parameters`.
bool parameter_decays(const ParameterInfo& parameter, const std::string& decay_parameters);

/// AdamW over the flat buffers (torch.optim.AdamW's arithmetic). Rates and decay are ranges of the buffer. fp32 moments.
class AdamW {
 public:
  AdamW(const ArenaTable& table, const OptimizerConfig& config);
  /// Norm of all gradients (fp64 sum over blocks in order: same bits at any thread count).
  double gradient_norm(const at::Tensor& gradients) const;
  /// clip factor max_norm / (norm + 1e-6) when norm > max_norm, folded into the update; then one AdamW step at `learning_rate`.
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
  std::vector<Range> ranges_;
  at::Tensor first_moment_, second_moment_;
  std::int64_t steps_done_ = 0;
};

}  // namespace ferro
