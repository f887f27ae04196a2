#include <algorithm>
#include <array>

#include "core/error.h"
#include "model/block_ops.h"
#include "model/qwen.h"

// The vision tower of Qwen2.5-VL (arXiv:2502.13923, section 2.1).

namespace ferro {

at::Tensor patch_embed(const PatchEmbedWeights& w, const at::Tensor& pixels_NC) {
  return linear(pixels_NC.to(w.proj.weight.value.scalar_type()), w.proj);
}

bool is_full_attention_block(const VisionConfig& config, std::int64_t block) {
  return std::find(config.fullatt_block_indexes.begin(), config.fullatt_block_indexes.end(), block) !=
         config.fullatt_block_indexes.end();
}

at::Tensor vision_block(const VisionBlockWeights& w, const at::Tensor& hidden_ND, const VisionLayout& layout,
                        bool full, const VisionConfig& config) {
  const std::array<const LinearWeights*, 1> layers{&w.qkv};
  const AttentionHeads heads{config.num_heads, config.num_heads, config.head_dim()};
  const AttentionInputs in = attention_inputs(hidden_ND, w.norm1, config.rms_norm_eps, layers, heads,
                                              layout.rotary.cos, layout.rotary.sin);
  const at::Tensor attended = attention(in.q, in.k, in.v, full ? layout.full_plan : layout.window_plan);
  const at::Tensor hidden =
      linear_onto(in.residual, attended.reshape({hidden_ND.size(0), config.hidden_size}), w.proj);
  return gated_mlp_onto(hidden, w.norm2, config.rms_norm_eps, w.mlp);
}

at::Tensor merge_patches(const MergerWeights& w, const at::Tensor& hidden_ND, const VisionConfig& config) {
  const std::int64_t merged_width =
      config.hidden_size * config.spatial_merge_size * config.spatial_merge_size;
  const at::Tensor merged = rms_norm(hidden_ND, w.ln_q, config.rms_norm_eps).reshape({-1, merged_width});
  return linear(ferro::gelu(linear(merged, w.fc1)), w.fc2);
}

at::Tensor vision_forward(const ModelWeights& w, const at::Tensor& pixels_NC, const VisionLayout& layout,
                          const VisionConfig& config) {
  FERRO_CHECK(pixels_NC.size(0) == layout.num_patches, "{} rows of pixels for {} patches", pixels_NC.size(0),
              layout.num_patches);
  at::Tensor hidden = patch_embed(w.patch_embed, pixels_NC).index_select(0, layout.patch_order);
  for (std::size_t block = 0; block < w.vision_blocks.size(); ++block)
    hidden = vision_block(w.vision_blocks[block], hidden, layout,
                          is_full_attention_block(config, static_cast<std::int64_t>(block)), config);
  return merge_patches(w.merger, hidden, config).index_select(0, layout.merged_order_inverse);
}

}  // namespace ferro
