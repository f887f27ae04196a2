#pragma once

#include <memory>
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

struct LowRankWeights;

/// y = x W^T + b, and what an adapter adds. `weight.value`: [out, in] plain, or [panels, in, 32] panels.
struct LinearWeights {
  Param weight;
  Param bias;  ///< value undefined: none.
  std::int64_t in = 0, out = 0;
  std::shared_ptr<const LowRankWeights> adapter = nullptr;  ///< Null: none.
};

/// Which draws the dropout of an adapter makes; switched on by the layer walk while it trains.
struct DropoutState {
  double rate = 0;
  std::uint64_t seed = 0, step = 0, pass = 0;  ///< Optimizer step; forward pass within it.
  bool active = false;
};

/// A low-rank adapter of a linear layer (LoRA, Hu et al. 2021, arXiv:2106.09685): adds scale * dropout(x) A^T
/// B^T.
struct LowRankWeights {
  LinearWeights a, b;  ///< A [rank, in], B [out, rank].
  double scale = 1;
  std::uint64_t layer = 0;                                ///< Coordinate of the layer's name.
  std::shared_ptr<const DropoutState> dropout = nullptr;  ///< Null: never.
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

/// Flat weights, and flat gradients of what is trained. Move-only by habit: copies share the tensors.
struct ParameterArena {
  ArenaTable table;
  at::Tensor weights;    ///< [table.size], fp32 unless allocated otherwise; zero in padding.
  at::Tensor gradients;  ///< [trained.size], or undefined.
  TrainedSet trained;    ///< Empty without gradients.

  static ParameterArena allocate(const ModelConfig& config, bool panels, bool with_gradients,
                                 at::ScalarType dtype = at::kFloat);
  void allocate_gradients();  ///< Of everything.
  void allocate_gradients(TrainedSet set);
  /// One parameter in file layout, a fresh contiguous tensor of `shape`.
  at::Tensor export_parameter(const std::string& name) const;
  /// The same of its gradient; it must be trained.
  at::Tensor export_gradient(const std::string& name) const;
  /// Copies a tensor in file layout (any float dtype) into the arena. Error{kData} on a wrong shape, naming
  /// it.
  void import_parameter(const std::string& name, const at::Tensor& value);
  /// The same for rows [first, first + value.size(0)) of a float tensor; `first` is a multiple of a
  /// panel's 32.
  void import_rows(const std::string& name, std::int64_t first, const at::Tensor& value);
};

struct LoraAdapter;

/// Views of the whole model, with an adapter's layers beside those they adapt (null: none).
ModelWeights bind_weights(const ModelConfig& config, const ParameterArena& arena,
                          const LoraAdapter* adapter = nullptr);

}  // namespace ferro
