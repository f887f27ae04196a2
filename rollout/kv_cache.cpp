#include "rollout/kv_cache.h"

#include <cstring>

#include "core/error.h"

namespace ferro {

KvCache::KvCache(const TextConfig& config, std::int64_t rows, at::Device device) {
  // Not zeroed: on the CPU, pages that no sequence reaches are never touched.
  const auto fresh = [&] {
    return at::empty({rows, config.num_key_value_heads, config.head_dim()},
                     at::TensorOptions(at::kFloat).device(device));
  };
  layers_.reserve(static_cast<std::size_t>(config.num_hidden_layers));
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) layers_.push_back({fresh(), fresh()});
}

void CachedAttention::write(at::Tensor& cache_RKE, const at::Tensor& new_TKE) const {
  FERRO_CHECK(new_TKE.size(0) == static_cast<std::int64_t>(rows_.size()), "{} rows for {} tokens",
              rows_.size(), new_TKE.size(0));
  const at::Tensor source = new_TKE.contiguous();
  if (!cache_RKE.is_cpu()) {
    cache_RKE.index_copy_(0, at::tensor(rows_, at::kLong).to(cache_RKE.device()), source);
    return;
  }
  const auto width = static_cast<std::size_t>(source.stride(0));
  const float* from = source.const_data_ptr<float>();
  float* to = cache_RKE.mutable_data_ptr<float>();
  for (std::size_t i = 0; i < rows_.size(); ++i)
    std::memcpy(to + static_cast<std::size_t>(rows_[i]) * width, from + i * width, width * sizeof(float));
}

at::Tensor CachedAttention::attend(const at::Tensor& q_THE, const at::Tensor& k_TKE,
                                   const at::Tensor& v_TKE) {
  KvCache::Layer& layer = cache_.layer(layer_);
  write(layer.k_RKE, k_TKE);
  write(layer.v_RKE, v_TKE);
  return attention(q_THE, layer.k_RKE, layer.v_RKE, plan_);
}

}  // namespace ferro
