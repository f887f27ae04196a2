#pragma once

#include <vector>

#include "model/arena.h"
#include "model/aten.h"

namespace ferro {

/// A weight and where its gradient is added. `grad` undefined: frozen, or no training. Both are views into
/// flat buffers. Gradients do not travel through autograd: the backward of an operation adds them to `grad`
/// in place.
struct Param {
  at::Tensor value;
  at::Tensor grad;
};

/// y = x W^T + b. `weight.value`: [out, in] plain, or [panels, in, 32] panels.
struct LinearWeights {
  Param weight;
  Param bias;  ///< value undefined: none.
  std::int64_t in = 0, out = 0;
};

struct GatedMlpWeights {
  LinearWeights gate, up, down;
};

struct PatchEmbedWeights {
  LinearWeights proj;
};
struct VisionBlockWeights {
  Param norm1, norm2;
  LinearWeights qkv, proj;
  GatedMlpWeights mlp;
};
struct MergerWeights {
  Param ln_q;
  LinearWeights fc1, fc2;  ///< merger.mlp.0 and merger.mlp.2, GELU (erf) between.
};
struct DecoderBlockWeights {
  Param input_norm, post_attention_norm;
  LinearWeights q, k, v, o;
  GatedMlpWeights mlp;
};
/// The whole model as views. With tied embeddings `head` is the embedding's matrix, and both gradients add
/// there.
struct ModelWeights {
  PatchEmbedWeights patch_embed;
  std::vector<VisionBlockWeights> vision_blocks;
  MergerWeights merger;
  LinearWeights embedding;  ///< in = hidden, out = vocabulary; looked up by row.
  std::vector<DecoderBlockWeights> decoder_blocks;
  Param final_norm;
  LinearWeights head;
};

/// Flat weights, and flat gradients when training. Move-only by habit: copies share the tensors.
struct ParameterArena {
  ArenaTable table;
  at::Tensor weights;    ///< [table.size] fp32, zero in padding.
  at::Tensor gradients;  ///< Same, or undefined.

  static ParameterArena allocate(const ModelConfig& config, bool panels, bool with_gradients);
  void allocate_gradients();
  /// One parameter in file layout, a fresh contiguous fp32 tensor of `shape`.
  at::Tensor export_parameter(const std::string& name) const;
  at::Tensor export_gradient(const std::string& name) const;
  /// Copies a tensor in file layout (any float dtype) into the arena. Error{kData} on a wrong shape, naming
  /// it.
  void import_parameter(const std::string& name, const at::Tensor& value);
};

ModelWeights bind_weights(const ModelConfig& config, const ParameterArena& arena);

}  // namespace ferro
