#include <array>

#include "core/error.h"
#include "model/block_ops.h"
#include "model/qwen.h"

// The language model of Qwen2.5-VL: Qwen2.5's decoder with M-RoPE (arXiv:2412.15115, arXiv:2502.13923).

namespace ferro {

AttentionPlan plan_of(std::span<const Segment> segments) {
  AttentionPlan plan;
  plan.causal = true;
  plan.spans.reserve(segments.size());
  for (const Segment& segment : segments) {
    AttentionSpan span;
    span.query_begin = span.key_begin = segment.begin;
    span.query_end = span.key_end = segment.end;
    span.prefix_begin = segment.prefix_begin;
    span.prefix_end = segment.prefix_end;
    plan.spans.push_back(span);
  }
  return plan;
}

at::Tensor embed_with_images(const LinearWeights& embedding_weights, std::span<const std::int32_t> tokens,
                             std::span<const PackedImage> images, const at::Tensor& features_MD,
                             std::int64_t merge_size) {
  at::Tensor hidden_TD = embedding(tokens, embedding_weights);
  std::int64_t row = 0;
  for (const PackedImage& packed : images) {
    const std::int64_t rows = packed.image->grid.patches() / (merge_size * merge_size);
    FERRO_CHECK(row + rows <= features_MD.size(0) && packed.token_begin + rows <= hidden_TD.size(0),
                "image rows [{}, {}) at token {} exceed {} feature rows or {} tokens", row, row + rows,
                packed.token_begin, features_MD.size(0), hidden_TD.size(0));
    hidden_TD.narrow(0, packed.token_begin, rows).copy_(features_MD.narrow(0, row, rows));
    row += rows;
  }
  FERRO_CHECK(images.empty() || row == features_MD.size(0), "{} of {} feature rows have a place", row,
              features_MD.size(0));
  return hidden_TD;
}

at::Tensor decoder_block(const DecoderBlockWeights& w, const at::Tensor& hidden_TD, const Rotary& tables,
                         Attention& attention_strategy, const TextConfig& config) {
  const std::array<const LinearWeights*, 3> layers{&w.q, &w.k, &w.v};
  const AttentionHeads heads{config.num_attention_heads, config.num_key_value_heads, config.head_dim()};
  const AttentionInputs in =
      attention_inputs(hidden_TD, w.input_norm, config.rms_norm_eps, layers, heads, tables.cos, tables.sin);
  const at::Tensor attended = attention_strategy.attend(in.q, in.k, in.v);
  const at::Tensor hidden =
      linear_onto(in.residual,
                  attended.reshape({hidden_TD.size(0), config.num_attention_heads * config.head_dim()}), w.o);
  return gated_mlp_onto(hidden, w.post_attention_norm, config.rms_norm_eps, w.mlp);
}

at::Tensor text_forward(const ModelWeights& w, const PackedBatch& batch, const ModelConfig& config) {
  const at::Device device = w.embedding.weight.value.device();
  at::Tensor features_MD;
  if (!batch.images.empty()) {
    std::vector<GridThw> grids;
    for (const PackedImage& packed : batch.images) grids.push_back(packed.image->grid);
    features_MD = vision_forward(w, batch_pixels(batch.images, config.vision.patch_values(), device),
                                 vision_layout(grids, config.vision, device), config.vision);
  }
  at::Tensor hidden_TD = embed_with_images(w.embedding, batch.tokens, batch.images, features_MD,
                                           config.vision.spatial_merge_size);
  const Rotary tables = text_rotary(batch.position_ids, config.text, device);
  PackedAttention packed_attention(plan_of(batch.segments));
  for (const DecoderBlockWeights& block : w.decoder_blocks)
    hidden_TD = decoder_block(block, hidden_TD, tables, packed_attention, config.text);
  return rms_norm(hidden_TD, w.final_norm, config.text.rms_norm_eps);
}

}  // namespace ferro
