#pragma once

#include <cstdint>
#include <string>

#include "core/config_visitor.h"

namespace ferro {

/// Rate and decay of one part of the model. Negative: the optimizer's own.
struct PartRates {
  double learning_rate = -1, weight_decay = -1;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("learning_rate", learning_rate, {.min = -1.0, .max = 10.0},
            "Peak learning rate of this part; its schedule has the same shape. Negative: "
            "optimizer.learning_rate.");
    v.field("weight_decay", weight_decay, {.min = -1.0, .max = 10.0},
            "Weight decay of this part. Negative: optimizer.weight_decay.");
  }
};

struct OptimizerConfig {
  double learning_rate = 1e-6;
  std::string lr_scheduler_type = "cosine";
  std::int64_t warmup_steps = 0;
  double weight_decay = 0.0;
  std::string decay_parameters = "huggingface";
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string state_dtype = "float32";
  PartRates vision, merger;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("learning_rate", learning_rate, {.min = 0.0, .max = 10.0}, "Peak learning rate.");
    v.field("lr_scheduler_type", lr_scheduler_type, Choices{"cosine", "linear", "constant"},
            "Shape after warm-up: to 0 over the run, or constant.");
    v.field("warmup_steps", warmup_steps, {.min = 0, .max = 1'000'000'000},
            "Steps of linear warm-up from 0.");
    v.field("weight_decay", weight_decay, {.min = 0.0, .max = 10.0},
            "Decoupled weight decay (times the learning rate).");
    v.field("decay_parameters", decay_parameters, Choices{"huggingface", "matrices", "all"},
            "What decays: by name as Hugging Face does (the vision tower's norm1, norm2 and ln_q too), or "
            "matrices only, or all.");
    v.field("adam_beta1", adam_beta1, {.min = 0.0, .max = 1.0}, "Decay of the first moment.");
    v.field("adam_beta2", adam_beta2, {.min = 0.0, .max = 1.0}, "Decay of the second moment.");
    v.field("adam_epsilon", adam_epsilon, {.min = 0.0, .max = 1.0},
            "Added to the root of the second moment.");
    v.field("max_grad_norm", max_grad_norm, {.min = 0.0, .max = 1e9},
            "Gradients are scaled down to this global norm; 0: never.");
    v.field("state_dtype", state_dtype, Choices{"float32", "int8"},
            "Moments of AdamW: 8 bytes per weight, or 2 (block-wise dynamic quantisation with stochastic "
            "rounding).");
    v.section("vision", vision, "The vision tower's own rates.");
    v.section("merger", merger, "The merger's own rates.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (learning_rate == 0 && (vision.learning_rate > 0 || merger.learning_rate > 0))
      report("learning_rate",
             "must be above 0 where a part has a rate of its own; freeze parts with `train`");
  }
};

}  // namespace ferro
