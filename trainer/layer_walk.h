#pragma once

#include <string>
#include <vector>

#include "data/packing.h"
#include "model/model_folder.h"
#include "model/qwen.h"

namespace ferro {

/// Forward and backward of one packed batch, stage by stage in an explicit order. Forward keeps each stage's input (recompute: full) or its graph
/// (recompute: none); backward walks the stages in reverse, calling autograd on one stage at a time. Gradients are added to the model's gradient arena.
class LayerWalk {
 public:
  enum class Recompute { kNone, kFull };
  LayerWalk(const Model& model, Recompute recompute);

  /// Hidden states after the final norm [T, D], detached. `training` false keeps nothing.
  at::Tensor forward(const PackedBatch& batch, bool training);
  /// grad of forward's result; every stage's gradient is complete when its turn has passed.
  void backward(const at::Tensor& grad_hidden_TD);

 private:
  struct StageRecord {
    at::Tensor input, output;
  };
  const Model& model_;
  Recompute recompute_;
  const PackedBatch* batch_ = nullptr;
  // The rest is the implementation's.
  VisionLayout layout_;
  Rotary rotary_;
  AttentionPlan plan_;
  at::Tensor pixels_;
  std::vector<StageRecord> vision_records_, decoder_records_;
  StageRecord merger_record_, norm_record_;
};

}  // namespace ferro
