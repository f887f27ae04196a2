#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <regex>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "trainer/adamw_kernel.h"

namespace ferro {
namespace {

constexpr std::int64_t kBlock = 1 << 15;  // Elements per unit of work, and per partial sum of the norm.

void check_buffer(const at::Tensor& buffer, std::int64_t size) {
  FERRO_CHECK(buffer.defined() && buffer.is_contiguous() && buffer.scalar_type() == at::kFloat &&
                  buffer.numel() == size,
              "a flat buffer of {} floats was expected", size);
}

// The same arithmetic as adamw_update, through ATen, for buffers that are not in host memory.
void adamw_aten(at::Tensor weight, at::Tensor gradient, at::Tensor first, at::Tensor second,
                const AdamWFactors& f) {
  const at::Tensor g = gradient * f.gradient_scale;
  weight.mul_(f.shrink);
  first.lerp_(g, f.first_weight);
  second.mul_(f.second_keep).addcmul_(g, g, f.second_weight);
  weight.addcdiv_(first, (second.sqrt() / f.root_bias).add_(f.epsilon), f.step_size);
}

}  // namespace

double learning_rate_at(const OptimizerConfig& config, std::int64_t step, std::int64_t total_steps) {
  const auto warmup = static_cast<double>(config.warmup_steps), at = static_cast<double>(step);
  if (step < config.warmup_steps) return config.learning_rate * (at / std::max(1.0, warmup));
  if (config.lr_scheduler_type == "constant") return config.learning_rate;
  const auto total = static_cast<double>(total_steps);
  if (config.lr_scheduler_type == "linear")
    return config.learning_rate * std::max(0.0, (total - at) / std::max(1.0, total - warmup));
  if (config.lr_scheduler_type == "cosine") {
    const double progress = (at - warmup) / std::max(1.0, total - warmup);
    return config.learning_rate *
           std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * 0.5 * 2.0 * progress)));
  }
  fail(ErrorCode::kConfig, "lr_scheduler_type is `{}`; it can be cosine, linear or constant",
       config.lr_scheduler_type);
}

bool parameter_decays(const ParameterInfo& parameter, const std::string& decay_parameters) {
  if (decay_parameters == "all") return true;
  if (decay_parameters == "matrices") return parameter.shape.size() >= 2;
  if (decay_parameters != "huggingface")
    fail(ErrorCode::kConfig, "decay_parameters is `{}`; it can be huggingface, matrices or all",
         decay_parameters);
  // transformers' Trainer.get_decay_parameter_names: `norm` must be a whole part of the name, or its ending
  // after `_`.
  static const std::regex exempt(R"(bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.))");
  return !std::regex_search(parameter.name, exempt);
}

AdamW::AdamW(const ArenaTable& table, const OptimizerConfig& config) : config_(config), size_(table.size) {
  for (const ParameterInfo& parameter : table.parameters) {
    const double decay = parameter_decays(parameter, config.decay_parameters) ? config.weight_decay : 0.0;
    const std::int64_t begin = parameter.offset, end = parameter.offset + parameter.size;
    if (!ranges_.empty() && ranges_.back().end == begin && ranges_.back().weight_decay == decay) {
      ranges_.back().end = end;
    } else {
      ranges_.push_back({begin, end, decay});
    }
  }
}

double AdamW::gradient_norm(const at::Tensor& gradients) const {
  check_buffer(gradients, size_);
  if (!gradients.is_cpu())
    return at::linalg_vector_norm(gradients, 2, c10::nullopt, false, at::kDouble).item<double>();
  const std::int64_t blocks = (size_ + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  const float* values = gradients.const_data_ptr<float>();
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b)
      sums[static_cast<std::size_t>(b)] =
          squared_sum(values + b * kBlock, std::min(kBlock, size_ - b * kBlock));
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return std::sqrt(sum);
}

void AdamW::step(at::Tensor& weights, const at::Tensor& gradients, double learning_rate,
                 double gradient_norm) {
  check_buffer(weights, size_);
  check_buffer(gradients, size_);
  if (!first_moment_.defined()) {
    first_moment_ = at::zeros_like(weights);
    second_moment_ = at::zeros_like(weights);
  }
  ++steps_done_;
  const auto steps = static_cast<double>(steps_done_);
  const double bias1 = 1 - std::pow(config_.adam_beta1, steps),
               bias2 = 1 - std::pow(config_.adam_beta2, steps);
  const bool clip = config_.max_grad_norm > 0 && gradient_norm > config_.max_grad_norm;
  AdamWFactors factors{};
  factors.gradient_scale = clip ? static_cast<float>(config_.max_grad_norm / (gradient_norm + 1e-6)) : 1.0F;
  factors.first_weight = static_cast<float>(1 - config_.adam_beta1);
  factors.second_keep = static_cast<float>(config_.adam_beta2);
  factors.second_weight = static_cast<float>(1 - config_.adam_beta2);
  factors.root_bias = static_cast<float>(std::sqrt(bias2));
  factors.epsilon = static_cast<float>(config_.adam_epsilon);
  factors.step_size = static_cast<float>(-(learning_rate / bias1));
  for (const Range& range : ranges_) {
    factors.shrink = static_cast<float>(1 - learning_rate * range.weight_decay);
    const std::int64_t size = range.end - range.begin;
    if (!weights.is_cpu()) {
      adamw_aten(weights.narrow(0, range.begin, size), gradients.narrow(0, range.begin, size),
                 first_moment_.narrow(0, range.begin, size), second_moment_.narrow(0, range.begin, size),
                 factors);
      continue;
    }
    const AdamWBuffers all{
        weights.data_ptr<float>() + range.begin, gradients.const_data_ptr<float>() + range.begin,
        first_moment_.data_ptr<float>() + range.begin, second_moment_.data_ptr<float>() + range.begin};
    at::parallel_for(0, (size + kBlock - 1) / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
      const std::int64_t at = first * kBlock;
      adamw_update({all.weight + at, all.gradient + at, all.first + at, all.second + at},
                   std::min(size, last * kBlock) - at, factors);
    });
  }
}

}  // namespace ferro
