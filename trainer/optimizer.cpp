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

namespace {

const PartRates* own_rates(const OptimizerConfig& config, ModelPart part) {
  switch (part) {
    case ModelPart::kVision:
      return &config.vision;
    case ModelPart::kMerger:
      return &config.merger;
    case ModelPart::kLanguage:
      break;
  }
  return nullptr;
}

}  // namespace

std::int64_t PartUpdates::of(ModelPart part) const {
  if (part == ModelPart::kVision) return vision;
  return part == ModelPart::kMerger ? merger : language;
}

AdamW::AdamW(const ArenaTable& table, const OptimizerConfig& config)
    : AdamW(table, TrainedSet::all(table), config, 0) {}

AdamW::AdamW(const ArenaTable& table, const TrainedSet& trained, const OptimizerConfig& config,
             std::uint64_t seed)
    : config_(config),
      weights_size_(table.size),
      size_(trained.size),
      seed_(seed),
      int8_(config.state_dtype == "int8") {
  for (std::size_t i = 0; i < table.parameters.size(); ++i) {
    if (trained.offsets[i] < 0) continue;
    const ParameterInfo& parameter = table.parameters[i];
    const ModelPart part = part_of(parameter.name);
    const PartRates* own = own_rates(config, part);
    double decay = 0, share = 1;
    if (parameter_decays(parameter, config.decay_parameters))
      decay = own != nullptr && own->weight_decay >= 0 ? own->weight_decay : config.weight_decay;
    if (own != nullptr && own->learning_rate >= 0 && own->learning_rate != config.learning_rate)
      share = own->learning_rate / config.learning_rate;
    add_range({parameter.offset, trained.offsets[i], parameter.size, share, decay, part, 0});
  }
  for (Range& range : ranges_) {
    range.first_block = blocks_;
    blocks_ += (range.size + kQuantisedBlock - 1) / kQuantisedBlock;
  }
  slice_ = {0, size_, 0, blocks_};
}

std::vector<std::int64_t> AdamW::slice_bounds(int ranks) const {
  FERRO_CHECK(slice_.begin == 0 && slice_.end == size_, "the slice {} to {} of {} is cut again", slice_.begin,
              slice_.end, size_);
  std::vector<std::int64_t> bounds{0};
  for (int r = 1; r < ranks; ++r) {
    const std::int64_t aim = size_ * r / ranks;
    const auto after =
        std::upper_bound(ranges_.begin(), ranges_.end(), aim,
                         [](std::int64_t place, const Range& range) { return place < range.gradient_begin; });
    if (after == ranges_.begin()) {
      bounds.push_back(0);
      continue;
    }
    const Range& range = *std::prev(after);
    const std::int64_t whole_blocks = (aim - range.gradient_begin) / kQuantisedBlock * kQuantisedBlock;
    bounds.push_back(range.gradient_begin + std::min(range.size, whole_blocks));
  }
  bounds.push_back(size_);
  return bounds;
}

std::int64_t AdamW::blocks_before(std::int64_t element) const {
  std::int64_t blocks = 0;
  for (const Range& range : ranges_) {
    const std::int64_t size = std::clamp<std::int64_t>(element - range.gradient_begin, 0, range.size);
    blocks += (size + kQuantisedBlock - 1) / kQuantisedBlock;
  }
  return blocks;
}

void AdamW::keep_slice(int rank, int ranks) {
  FERRO_CHECK(!first_moment_.defined() && rank >= 0 && rank < ranks, "slice {} of {}", rank, ranks);
  const std::vector<std::int64_t> bounds = slice_bounds(ranks);
  const auto r = static_cast<std::size_t>(rank);
  slice_ = {bounds[r], bounds[r + 1], blocks_before(bounds[r]), blocks_before(bounds[r + 1])};
  std::vector<Range> kept;
  for (Range range : ranges_) {
    const std::int64_t begin = std::max(range.gradient_begin, slice_.begin),
                       end = std::min(range.gradient_begin + range.size, slice_.end),
                       skipped = begin - range.gradient_begin;
    if (begin >= end) continue;
    range.weight_begin += skipped;
    range.gradient_begin = begin;
    range.size = end - begin;
    range.first_block += skipped / kQuantisedBlock;
    kept.push_back(range);
  }
  ranges_ = std::move(kept);
}

void AdamW::add_range(const Range& range) {
  if (!ranges_.empty()) {
    Range& last = ranges_.back();
    if (last.weight_begin + last.size == range.weight_begin &&
        last.gradient_begin + last.size == range.gradient_begin && last.rate_share == range.rate_share &&
        last.weight_decay == range.weight_decay && last.part == range.part) {
      last.size += range.size;
      return;
    }
  }
  ranges_.push_back(range);
}

void AdamW::allocate_state(const at::Tensor& weights) {
  const auto options = weights.options();
  if (int8_ && !weights.is_cpu())
    fail(ErrorCode::kConfig, "optimizer.state_dtype int8 needs weights in host memory, they are on {}",
         weights.device().str());
  first_moment_ = at::zeros({slice_.end - slice_.begin}, int8_ ? options.dtype(at::kByte) : options);
  second_moment_ = at::zeros_like(first_moment_);
  if (!int8_) return;
  first_scale_ = at::zeros({slice_.block_end - slice_.block_begin}, options);
  second_scale_ = at::zeros_like(first_scale_);
}

void AdamW::restore(std::int64_t steps_done, const PartUpdates& updates, const at::Tensor& weights) {
  steps_done_ = steps_done;
  updates_ = updates;
  if (steps_done > 0) allocate_state(weights);
}

std::int64_t AdamW::state_bytes() const {
  std::int64_t bytes = 0;
  for (const at::Tensor& state : {first_moment_, second_moment_, first_scale_, second_scale_})
    if (state.defined()) bytes += static_cast<std::int64_t>(state.nbytes());
  return bytes;
}

QuantisedMoments AdamW::quantised(const Range& range, std::int64_t at) const {
  const std::int64_t element = range.gradient_begin - slice_.begin + at,
                     block = range.first_block - slice_.block_begin + at / kQuantisedBlock;
  return {first_moment_.mutable_data_ptr<std::uint8_t>() + element,
          second_moment_.mutable_data_ptr<std::uint8_t>() + element,
          first_scale_.mutable_data_ptr<float>() + block, second_scale_.mutable_data_ptr<float>() + block};
}

at::Tensor AdamW::moment(bool first) const {
  if (!int8_ || !first_moment_.defined()) return first ? first_moment_ : second_moment_;
  at::Tensor values = at::zeros({slice_.end - slice_.begin}, at::kFloat);
  for (const Range& range : ranges_) {
    float* out = values.mutable_data_ptr<float>() + range.gradient_begin - slice_.begin;
    if (first) {
      read_first_moment(quantised(range, 0), range.size, out);
    } else {
      read_second_moment(quantised(range, 0), range.size, out);
    }
  }
  return values;
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

AdamWFactors AdamW::factors_at(double learning_rate, double gradient_norm, std::int64_t updates) const {
  const auto steps = static_cast<double>(updates);
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
  return factors;
}

void AdamW::step(at::Tensor& weights, const at::Tensor& gradients, double learning_rate, double gradient_norm,
                 const TrainedParts& with_gradient) {
  check_buffer(weights, weights_size_);
  check_buffer(gradients, size_);
  if (!first_moment_.defined()) allocate_state(weights);
  ++steps_done_;
  if (with_gradient.vision) ++updates_.vision;
  if (with_gradient.merger) ++updates_.merger;
  if (with_gradient.language) ++updates_.language;
  for (const Range& range : ranges_) {
    if (!with_gradient.contains(range.part)) continue;
    const double rate = learning_rate * range.rate_share;
    AdamWFactors factors = factors_at(rate, gradient_norm, updates_.of(range.part));
    factors.shrink = static_cast<float>(1 - rate * range.weight_decay);
    step_range(range, weights, gradients, factors);
  }
}

void AdamW::step_range(const Range& range, at::Tensor& weights, const at::Tensor& gradients,
                       const AdamWFactors& factors) {
  if (!weights.is_cpu()) {
    adamw_aten(weights.narrow(0, range.weight_begin, range.size),
               gradients.narrow(0, range.gradient_begin, range.size),
               first_moment_.narrow(0, range.gradient_begin - slice_.begin, range.size),
               second_moment_.narrow(0, range.gradient_begin - slice_.begin, range.size), factors);
    return;
  }
  float* weight = weights.data_ptr<float>() + range.weight_begin;
  const float* gradient = gradients.const_data_ptr<float>() + range.gradient_begin;
  const RoundingKey rounding = int8_ ? rounding_key(seed_, steps_done_) : RoundingKey{};
  at::parallel_for(0, (range.size + kBlock - 1) / kBlock, 1, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t at = first * kBlock, size = std::min(range.size, last * kBlock) - at;
    if (int8_) {
      adamw_update_quantised(weight + at, gradient + at, quantised(range, at), size, factors, rounding,
                             range.gradient_begin + at);
      return;
    }
    const std::int64_t moment = range.gradient_begin - slice_.begin + at;
    adamw_update({weight + at, gradient + at, first_moment_.data_ptr<float>() + moment,
                  second_moment_.data_ptr<float>() + moment},
                 size, factors);
  });
}

}  // namespace ferro
