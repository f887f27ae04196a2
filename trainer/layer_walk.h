#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/packing.h"
#include "model/model_folder.h"
#include "model/qwen.h"

namespace ferro {

/// Forward and backward of one packed batch, stage by stage in an explicit order. Forward keeps each stage's
/// input (recompute: full) or its graph (recompute: none); backward walks the stages in reverse, calling
/// autograd on one stage at a time, down to the lowest that has something to train; below it nothing is kept.
/// Gradients are added to the model's gradient arena, or to its adapter's. Both policies give the same bits.
/// One thread.
class LayerWalk {
 public:
  enum class Recompute { kNone, kFull };
  /// "none" or "full". Error{kConfig} otherwise.
  static Recompute recompute_of(const std::string& name);

  /// `model` must outlive the walk; it may be without gradients when backward is never called.
  LayerWalk(const Model& model, Recompute recompute);

  /// Hidden states after the final norm [T, D], detached. `training` false keeps nothing; true switches the
  /// adapter's dropout on for this pass, numbered within the optimizer step. `batch` must live until backward
  /// has returned.
  at::Tensor forward(const PackedBatch& batch, bool training);
  /// `grad_hidden_TD`: of forward's result. Every stage's gradient is complete when its turn has passed. Once
  /// per forward.
  void backward(const at::Tensor& grad_hidden_TD);
  /// Stages that a forward in training has kept something of, for backward to visit.
  std::size_t stages_kept() const;

 private:
  struct StageRecord {
    at::Tensor input, output;  ///< `output` only where the graph is kept.
  };
  /// How far down backward goes: what is trained, and what lies above it.
  struct Reach {
    bool patch_embed = false, merger = false, embedding = false, norm = false;
    std::size_t first_vision_block = 0, first_decoder_block = 0;  ///< Their number: none.
  };
  static Reach reach_of(const ModelWeights& weights);
  /// `kept`: backward will visit this stage.
  template <class Stage>
  at::Tensor run(StageRecord& record, const at::Tensor& input, bool kept, const Stage& stage);
  template <class Stage>
  at::Tensor differentiate(StageRecord& record, const at::Tensor& grad_output, const Stage& stage);

  at::Tensor run_vision_block(std::size_t index, const at::Tensor& hidden_ND) const;
  at::Tensor run_decoder_block(std::size_t index, const at::Tensor& hidden_TD) const;
  at::Tensor forward_vision();
  /// Of the embedding and the image features.
  void backward_inputs(const at::Tensor& grad_TD);
  void backward_vision(const at::Tensor& grad_features_MD);
  std::int64_t feature_count(const PackedImage& image) const;
  /// Packed rows of the image features, in feature order.
  at::Tensor feature_rows() const;

  const Model& model_;
  Recompute recompute_;
  Reach reach_;
  bool training_ = false;
  const PackedBatch* batch_ = nullptr;
  VisionLayout layout_;
  Rotary rotary_;
  AttentionPlan plan_;
  at::Tensor pixels_NC_;  ///< In window order.
  std::vector<StageRecord> vision_records_, decoder_records_;
  StageRecord merger_record_, norm_record_;
};

}  // namespace ferro
