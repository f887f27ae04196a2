#pragma once

#include <cstdint>
#include <vector>

#include "model/qwen.h"

namespace ferro {

/// Keys and values of every decoder layer: k and v [rows, K, E] fp32 each. Rows are uninitialised until
/// written.
class KvCache {
 public:
  KvCache(const TextConfig& config, std::int64_t rows, at::Device device);
  struct Layer {
    at::Tensor k_RKE, v_RKE;
  };
  Layer& layer(std::size_t index) { return layers_[index]; }

 private:
  std::vector<Layer> layers_;
};

/// Attention over the cache: writes the batch's keys and values into their rows, then attends to the cache by
/// the plan. The step (rows, plan) stays for all layers; which layer is current moves. One thread.
class CachedAttention final : public Attention {
 public:
  explicit CachedAttention(KvCache& cache) : cache_(cache) {}
  /// Rows of the cache that the batch's tokens go to, in order, and what each query sees there. The caller
  /// fills both in place.
  std::vector<std::int64_t>& rows() { return rows_; }
  AttentionPlan& plan() { return plan_; }
  void begin_layer(std::size_t layer) { layer_ = layer; }
  at::Tensor attend(const at::Tensor& q_THE, const at::Tensor& k_TKE, const at::Tensor& v_TKE) override;

 private:
  void write(at::Tensor& cache_RKE, const at::Tensor& new_TKE) const;
  KvCache& cache_;
  std::vector<std::int64_t> rows_;
  AttentionPlan plan_;
  std::size_t layer_ = 0;
};

}  // namespace ferro
