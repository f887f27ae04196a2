#include "trainer/layer_walk.h"

#include <algorithm>
#include <utility>

#include <c10/core/GradMode.h>

#include "core/error.h"
#include "model/lora.h"

namespace ferro {

// Shapes: T packed tokens, N patches, M merged patches, C pixel values of a patch, D width.

LayerWalk::Recompute LayerWalk::recompute_of(const std::string& name) {
  if (name == "none") return Recompute::kNone;
  if (name == "full") return Recompute::kFull;
  fail(ErrorCode::kConfig, "recompute is `{}`; it can be none or full", name);
}

namespace {

bool trained(const Param& param) {
  return param.grad.defined();
}
bool trained(const LinearWeights& w) {
  return trained(w.weight) || trained(w.bias) || (w.adapter != nullptr && trained(w.adapter->a.weight));
}
bool trained(const GatedMlpWeights& w) {
  return trained(w.gate) || trained(w.up) || trained(w.down);
}
bool trained(const VisionBlockWeights& w) {
  return trained(w.norm1) || trained(w.norm2) || trained(w.qkv) || trained(w.proj) || trained(w.mlp);
}
bool trained(const MergerWeights& w) {
  return trained(w.ln_q) || trained(w.fc1) || trained(w.fc2);
}
bool trained(const DecoderBlockWeights& w) {
  return trained(w.input_norm) || trained(w.post_attention_norm) || trained(w.q) || trained(w.k) ||
         trained(w.v) || trained(w.o) || trained(w.mlp);
}

template <class Blocks>
std::size_t first_trained(const Blocks& blocks) {
  const auto found = std::find_if(blocks.begin(), blocks.end(), [](const auto& w) { return trained(w); });
  return static_cast<std::size_t>(found - blocks.begin());
}

/// The adapter drops its inputs in training passes only: in a forward, and where backward repeats it.
class DropoutScope {
 public:
  DropoutScope(const Model& model, bool on)
      : dropout_(on && model.adapter != nullptr ? model.adapter->dropout.get() : nullptr) {
    if (dropout_ != nullptr) dropout_->active = true;
  }
  DropoutScope(const DropoutScope&) = delete;
  DropoutScope& operator=(const DropoutScope&) = delete;
  ~DropoutScope() {
    if (dropout_ != nullptr) dropout_->active = false;
  }

 private:
  DropoutState* dropout_;
};

}  // namespace

LayerWalk::Reach LayerWalk::reach_of(const ModelWeights& w) {
  Reach reach;
  reach.patch_embed = trained(w.patch_embed.proj);
  reach.first_vision_block = reach.patch_embed ? 0 : first_trained(w.vision_blocks);
  reach.merger = reach.first_vision_block < w.vision_blocks.size() || trained(w.merger);
  reach.embedding = trained(w.embedding);
  reach.first_decoder_block = reach.merger || reach.embedding ? 0 : first_trained(w.decoder_blocks);
  reach.norm = reach.first_decoder_block < w.decoder_blocks.size() || trained(w.final_norm) || reach.merger ||
               reach.embedding;
  return reach;
}

LayerWalk::LayerWalk(const Model& model, Recompute recompute)
    : model_(model),
      recompute_(recompute),
      reach_(reach_of(model.weights)),
      vision_records_(model.weights.vision_blocks.size()),
      decoder_records_(model.weights.decoder_blocks.size()) {}

template <class Stage>
at::Tensor LayerWalk::run(StageRecord& record, const at::Tensor& input, bool kept, const Stage& stage) {
  record = {};
  if (!training_ || !kept) {
    const c10::AutoGradMode no_graph(false);
    return stage(input);
  }
  const bool keep_graph = recompute_ == Recompute::kNone;
  const c10::AutoGradMode graph(keep_graph);
  record.input = input.detach();
  if (keep_graph) record.input.requires_grad_(true);
  at::Tensor output = stage(record.input);
  if (keep_graph) record.output = output;
  return output.detach();
}

template <class Stage>
at::Tensor LayerWalk::differentiate(StageRecord& record, const at::Tensor& grad_output, const Stage& stage) {
  const StageRecord own = std::exchange(record, {});
  FERRO_CHECK(own.input.defined(), "backward without a forward in training");
  at::Tensor input = own.input, output = own.output;
  if (!output.defined()) {
    const c10::AutoGradMode graph(true);
    input.requires_grad_(true);
    output = stage(input);
  }
  return torch::autograd::grad({output}, {input}, {grad_output})[0];
}

at::Tensor LayerWalk::run_vision_block(std::size_t index, const at::Tensor& hidden_ND) const {
  const bool full = is_full_attention_block(model_.config.vision, static_cast<std::int64_t>(index));
  return vision_block(model_.weights.vision_blocks[index], hidden_ND, layout_, full, model_.config.vision);
}

at::Tensor LayerWalk::run_decoder_block(std::size_t index, const at::Tensor& hidden_TD) const {
  PackedAttention attention(plan_);
  return decoder_block(model_.weights.decoder_blocks[index], hidden_TD, rotary_, attention,
                       model_.config.text);
}

at::Tensor LayerWalk::forward_vision() {
  const VisionConfig& vision = model_.config.vision;
  const at::Device device = model_.arena.weights.device();
  std::vector<GridThw> grids;
  for (const PackedImage& image : batch_->images) grids.push_back(image.image->grid);
  layout_ = vision_layout(grids, vision, device);
  pixels_NC_ =
      batch_pixels(batch_->images, vision.patch_values(), device).index_select(0, layout_.patch_order);
  at::Tensor hidden_ND;
  {
    const c10::AutoGradMode no_graph(false);
    hidden_ND = patch_embed(model_.weights.patch_embed, pixels_NC_);
  }
  if (!training_ || !reach_.patch_embed) pixels_NC_.reset();
  for (std::size_t i = 0; i < vision_records_.size(); ++i)
    hidden_ND = run(vision_records_[i], hidden_ND, i >= reach_.first_vision_block,
                    [&](const at::Tensor& x) { return run_vision_block(i, x); });
  const at::Tensor merged_MD = run(merger_record_, hidden_ND, reach_.merger, [&](const at::Tensor& x) {
    return merge_patches(model_.weights.merger, x, vision);
  });
  return merged_MD.index_select(0, layout_.merged_order_inverse);
}

at::Tensor LayerWalk::forward(const PackedBatch& batch, bool training) {
  batch_ = &batch;
  training_ = training;
  const DropoutScope dropout(model_, training);
  if (training && model_.adapter != nullptr) ++model_.adapter->dropout->pass;
  const ModelConfig& config = model_.config;
  rotary_ = text_rotary(batch.position_ids, config.text, model_.arena.weights.device());
  plan_ = plan_of(batch.segments);
  at::Tensor features_MD;
  if (!batch.images.empty()) features_MD = forward_vision();
  at::Tensor hidden_TD;
  {
    const c10::AutoGradMode no_graph(false);
    hidden_TD = embed_with_images(model_.weights.embedding, batch.tokens, batch.images, features_MD,
                                  config.vision.spatial_merge_size);
  }
  for (std::size_t i = 0; i < decoder_records_.size(); ++i)
    hidden_TD = run(decoder_records_[i], hidden_TD, i >= reach_.first_decoder_block,
                    [&](const at::Tensor& x) { return run_decoder_block(i, x); });
  return run(norm_record_, hidden_TD, reach_.norm, [&](const at::Tensor& x) {
    return rms_norm(x, model_.weights.final_norm, config.text.rms_norm_eps);
  });
}

std::size_t LayerWalk::stages_kept() const {
  const auto kept = [](const StageRecord& record) { return record.input.defined(); };
  const auto of = [&](const std::vector<StageRecord>& records) {
    return static_cast<std::size_t>(std::count_if(records.begin(), records.end(), kept));
  };
  return of(vision_records_) + of(decoder_records_) + (kept(merger_record_) ? 1 : 0) +
         (kept(norm_record_) ? 1 : 0);
}

std::int64_t LayerWalk::feature_count(const PackedImage& image) const {
  const std::int64_t merge = model_.config.vision.spatial_merge_size;
  return image.image->grid.patches() / (merge * merge);
}

at::Tensor LayerWalk::feature_rows() const {
  std::vector<std::int64_t> rows;
  for (const PackedImage& image : batch_->images)
    for (std::int64_t i = 0; i < feature_count(image); ++i) rows.push_back(image.token_begin + i);
  return at::tensor(rows, at::kLong).to(model_.arena.weights.device());
}

void LayerWalk::backward(const at::Tensor& grad_hidden_TD) {
  const ParameterArena& arena = model_.adapter != nullptr ? model_.adapter->arena : model_.arena;
  FERRO_CHECK(batch_ != nullptr && arena.gradients.defined(),
              "backward needs a forward and a gradient arena");
  const ModelConfig& config = model_.config;
  const DropoutScope dropout(model_, true);
  at::Tensor grad_TD = grad_hidden_TD;
  if (reach_.norm)
    grad_TD = differentiate(norm_record_, grad_TD, [&](const at::Tensor& x) {
      return rms_norm(x, model_.weights.final_norm, config.text.rms_norm_eps);
    });
  for (std::size_t i = decoder_records_.size(); i-- > reach_.first_decoder_block;)
    grad_TD = differentiate(decoder_records_[i], grad_TD,
                            [&](const at::Tensor& x) { return run_decoder_block(i, x); });
  backward_inputs(grad_TD);
  batch_ = nullptr;
}

void LayerWalk::backward_inputs(const at::Tensor& grad_TD) {
  if (batch_->images.empty()) {
    if (reach_.embedding) embedding_backward(batch_->tokens, grad_TD, model_.weights.embedding, {});
    return;
  }
  if (reach_.embedding) {
    std::vector<std::uint8_t> replaced(batch_->tokens.size(), 0);
    for (const PackedImage& image : batch_->images)
      std::fill_n(replaced.begin() + image.token_begin, feature_count(image), std::uint8_t{1});
    embedding_backward(batch_->tokens, grad_TD, model_.weights.embedding, replaced);
  }
  if (reach_.merger) backward_vision(grad_TD.index_select(0, feature_rows()));
}

void LayerWalk::backward_vision(const at::Tensor& grad_features_MD) {
  // Image order back to window order: forward took row merged_order_inverse[i] to place i.
  at::Tensor grad =
      at::empty_like(grad_features_MD).index_copy_(0, layout_.merged_order_inverse, grad_features_MD);
  grad = differentiate(merger_record_, grad, [&](const at::Tensor& x) {
    return merge_patches(model_.weights.merger, x, model_.config.vision);
  });
  for (std::size_t i = vision_records_.size(); i-- > reach_.first_vision_block;)
    grad =
        differentiate(vision_records_[i], grad, [&](const at::Tensor& x) { return run_vision_block(i, x); });
  if (!reach_.patch_embed) return;
  const c10::AutoGradMode no_graph(false);
  linear_backward(pixels_NC_, grad, model_.weights.patch_embed.proj, false);
  pixels_NC_.reset();
}

}  // namespace ferro
