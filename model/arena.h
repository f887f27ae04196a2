#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/config.h"

namespace ferro {

/// How a tensor lies in the flat buffer. Nothing above model/ asks.
enum class Layout {
  kPlain,   ///< Row-major, as in files.
  kPanels,  ///< A [out, in] matrix as ceil(out / 32) panels of [in, 32], the last padded with zeros: what the
            ///< CPU GEMM reads.
};

enum class StageKind { kPatchEmbed, kVisionBlock, kMerger, kEmbedding, kDecoderBlock, kHead };

struct ParameterInfo {
  std::string name;                 ///< Hub name ("model.layers.0.self_attn.q_proj.weight").
  std::vector<std::int64_t> shape;  ///< As in files.
  Layout layout = Layout::kPlain;
  std::int64_t offset = 0;  ///< First element in the flat buffer.
  std::int64_t size = 0;    ///< Elements in the flat buffer, padding included.
  std::int32_t stage = 0;
};

/// One step of the layer walk: a contiguous range of the flat buffer.
struct StageInfo {
  StageKind kind = StageKind::kHead;
  std::int32_t index = 0;                                ///< Block number within its kind.
  std::string name;                                      ///< "vision_block.3".
  std::int64_t begin = 0, end = 0;                       ///< Elements.
  std::int32_t first_parameter = 0, last_parameter = 0;  ///< [first, last) in `parameters`.
};

using ParameterFilter = std::function<bool(const ParameterInfo&)>;

/// Names, shapes and places of all parameters of a model: stages in forward order (patch embed, vision
/// blocks, merger, embedding, decoder blocks, head = final norm and, untied, lm_head). A pure function of
/// config and device kind.
struct ArenaTable {
  std::vector<ParameterInfo> parameters;
  std::vector<StageInfo> stages;
  std::int64_t size = 0;  ///< Elements of a flat buffer; stages start at multiples of 64.
  std::map<std::string, std::int32_t> by_name;
  static ArenaTable make(const ModelConfig& config, bool panels);
  /// The table of a low-rank adapter: for each weight of `base` that `adapted` accepts,
  /// `<module>.lora_A.weight` [rank, in] and `<module>.lora_B.weight` [out, rank], in the stages of `base`.
  static ArenaTable low_rank(const ArenaTable& base, bool panels, std::int64_t rank,
                             const ParameterFilter& adapted);
  std::int64_t num_parameters() const;  ///< Without padding.
};

/// The parts of a model that are trained apart. Embedding and head belong to the language model.
enum class ModelPart { kVision, kMerger, kLanguage };
ModelPart part_of(const std::string& hub_name);

/// Which parameters of a table are trained and where their gradients lie: in the table's order and alignment,
/// frozen ones take no room. With everything trained a gradient lies where its weight does.
struct TrainedSet {
  std::vector<std::int64_t> offsets;  ///< By parameter, into the gradient buffer; -1: frozen.
  std::int64_t size = 0;              ///< Elements of the gradient buffer.
  static TrainedSet all(const ArenaTable& table);
  static TrainedSet make(const ArenaTable& table, const ParameterFilter& trained);
};

}  // namespace ferro
