#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing.h"
#include "model/config.h"
#include "model/ops.h"

namespace ferro {

// Qwen2.5-VL as pure functions over weights: trainer and rollout engine call the same ones, and differ only
// in Attention. T packed tokens, N patches, M merged patches, D width.

/// How a block attends: packed rows (training, prefill without a cache) or a key/value cache (rollout).
class Attention {
 public:
  virtual ~Attention() = default;
  virtual at::Tensor attend(const at::Tensor& q_THE, const at::Tensor& k_TKE, const at::Tensor& v_TKE) = 0;
};

class PackedAttention final : public Attention {
 public:
  explicit PackedAttention(AttentionPlan plan) : plan_(std::move(plan)) {}
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) override {
    return attention(q, k, v, plan_);
  }

 private:
  AttentionPlan plan_;
};

/// The plan of a batch's segments: keys are the batch's own rows.
AttentionPlan plan_of(std::span<const Segment> segments);

/// cos and sin tables, [rows, E] each, E the head dim.
struct Rotary {
  at::Tensor cos, sin;
};
/// M-RoPE tables from position ids [3, T]: sections of head_dim / 2 frequencies take the temporal, height and
/// width positions.
Rotary text_rotary(std::span<const std::int32_t> position_ids, const TextConfig& config, at::Device device);

/// Everything about a batch of images that does not depend on weights: window order, rotary tables, attention
/// plans. Golden: forward/window_index.json.
struct VisionLayout {
  std::int64_t num_patches = 0;
  std::vector<std::int64_t> window_index;       ///< [M] merged patch at each place of window order.
  std::vector<std::int32_t> cu_window_seqlens;  ///< Patches, no empty windows.
  std::vector<std::int32_t> cu_seqlens;         ///< Patches, one entry per temporal patch.
  Rotary rotary;                                ///< In window order.
  AttentionPlan window_plan, full_plan;
  at::Tensor patch_order;           ///< [N] int64: input patch at each place of window order.
  at::Tensor merged_order_inverse;  ///< [M] int64: undoes window order after the merger.
};
VisionLayout vision_layout(std::span<const GridThw> grids, const VisionConfig& config, at::Device device);

/// Pixels of all images of a batch, rows in input order: [N, patch_values].
at::Tensor batch_pixels(std::span<const PackedImage> images, std::int64_t patch_values, at::Device device);

at::Tensor patch_embed(const PatchEmbedWeights& w, const at::Tensor& pixels_NC);
/// hidden_ND in window order; `full`: this block attends over whole temporal patches instead of windows.
at::Tensor vision_block(const VisionBlockWeights& w, const at::Tensor& hidden_ND, const VisionLayout& layout,
                        bool full, const VisionConfig& config);
/// [N, D] in window order -> [M, out_hidden] in window order (callers undo the order).
at::Tensor merge_patches(const MergerWeights& w, const at::Tensor& hidden_ND, const VisionConfig& config);
bool is_full_attention_block(const VisionConfig& config, std::int64_t block);

/// The whole tower: [M, out_hidden] in image order.
at::Tensor vision_forward(const ModelWeights& w, const at::Tensor& pixels_NC, const VisionLayout& layout,
                          const VisionConfig& config);

/// Token embeddings with image features written over the placeholder rows, image after image.
at::Tensor embed_with_images(const LinearWeights& embedding, std::span<const std::int32_t> tokens,
                             std::span<const PackedImage> images, const at::Tensor& features_MD,
                             std::int64_t merge_size);

at::Tensor decoder_block(const DecoderBlockWeights& w, const at::Tensor& hidden_TD, const Rotary& rotary,
                         Attention& attention, const TextConfig& config);

/// Hidden states after the final norm, [T, D]: the reference forward that tests and `score` use.
at::Tensor text_forward(const ModelWeights& w, const PackedBatch& batch, const ModelConfig& config);

}  // namespace ferro
