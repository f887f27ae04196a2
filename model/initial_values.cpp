#include "model/initial_values.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>

namespace ferro {
namespace {

/// Blocks that write to the residual stream, whose output is scaled down so that depth does not grow its
/// variance.
bool writes_to_residual(const std::string& name) {
  return name.ends_with(".o_proj.weight") || name.ends_with(".attn.proj.weight") ||
         name.ends_with(".down_proj.weight");
}

double standard_deviation(const ModelConfig& config, const std::string& name,
                          const std::vector<std::int64_t>& shape) {
  std::int64_t fan_in = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= shape[i];
  const double base = 1.0 / std::sqrt(static_cast<double>(fan_in));
  if (name.ends_with("embed_tokens.weight")) return 0.5 * base;
  if (!writes_to_residual(name)) return base;
  const std::int64_t depth =
      name.starts_with("visual.") ? config.vision.depth : config.text.num_hidden_layers;
  return base / std::sqrt(2.0 * static_cast<double>(depth));
}

constexpr std::int64_t kGrain = 1 << 14;

}  // namespace

InitialValues::InitialValues(const ModelConfig& config, const std::string& name,
                             const std::vector<std::int64_t>& shape, std::uint64_t seed)
    : random_(seed, RandomPurpose::kInitialisation, {coordinate_of(name.data(), name.size())}) {
  if (name.ends_with(".bias")) return;
  if (shape.size() == 1) {
    constant_ = 1;
  } else {
    deviation_ = standard_deviation(config, name, shape);
  }
}

void InitialValues::fill(std::int64_t first, std::span<float> out) const {
  if (deviation_ == 0) {
    std::fill(out.begin(), out.end(), constant_);
    return;
  }
  at::parallel_for(0, static_cast<std::int64_t>(out.size()), kGrain,
                   [&](std::int64_t begin, std::int64_t end) {
                     random_.fill_normals(
                         static_cast<std::uint64_t>(first + begin), deviation_,
                         out.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
                   });
}

}  // namespace ferro
