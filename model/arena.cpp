#include "model/arena.h"

#include <numeric>
#include <utility>

#include <fmt/ranges.h>

#include "core/error.h"
#include "model/weights.h"

namespace ferro {
namespace {

constexpr std::int64_t kPanelWidth = 32;
constexpr std::int64_t kStageAlignment = 64;      // Elements.
constexpr std::int64_t kParameterAlignment = 16;  // Elements: one 64-byte line.

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// Columns of a parameter seen as a matrix: a patch embedding's kernel is [hidden, patch_values].
std::int64_t matrix_columns(const std::vector<std::int64_t>& shape) {
  return num_elements(shape) / shape[0];
}

class TableBuilder {
 public:
  TableBuilder(ArenaTable& table, bool panels) : table_(table), panels_(panels) {}

  void begin_stage(StageKind kind, std::int32_t index, std::string name) {
    table_.size = round_up(table_.size, kStageAlignment);
    StageInfo stage;
    stage.kind = kind;
    stage.index = index;
    stage.name = std::move(name);
    stage.begin = table_.size;
    stage.first_parameter = static_cast<std::int32_t>(table_.parameters.size());
    table_.stages.push_back(std::move(stage));
  }

  void end_stage() {
    StageInfo& stage = table_.stages.back();
    stage.end = table_.size = round_up(table_.size, kStageAlignment);
    stage.last_parameter = static_cast<std::int32_t>(table_.parameters.size());
  }

  void add(std::string name, std::vector<std::int64_t> shape) {
    ParameterInfo info;
    const bool matrix = shape.size() > 1;
    info.layout = matrix && panels_ ? Layout::kPanels : Layout::kPlain;
    info.size = info.layout == Layout::kPanels ? round_up(shape[0], kPanelWidth) * matrix_columns(shape)
                                               : num_elements(shape);
    info.offset = table_.size = round_up(table_.size, kParameterAlignment);
    info.stage = static_cast<std::int32_t>(table_.stages.size()) - 1;
    table_.size += info.size;
    table_.by_name.emplace(name, static_cast<std::int32_t>(table_.parameters.size()));
    info.name = std::move(name);
    info.shape = std::move(shape);
    table_.parameters.push_back(std::move(info));
  }

  void add_linear(const std::string& prefix, std::int64_t out, std::int64_t in, bool bias) {
    add(prefix + ".weight", {out, in});
    if (bias) add(prefix + ".bias", {out});
  }

  void add_mlp(const std::string& prefix, std::int64_t width, std::int64_t inner, bool bias) {
    add_linear(prefix + ".gate_proj", inner, width, bias);
    add_linear(prefix + ".up_proj", inner, width, bias);
    add_linear(prefix + ".down_proj", width, inner, bias);
  }

 private:
  ArenaTable& table_;
  bool panels_;
};

void add_vision(TableBuilder& builder, const VisionConfig& v) {
  builder.begin_stage(StageKind::kPatchEmbed, 0, "patch_embed");
  builder.add("visual.patch_embed.proj.weight",
              {v.hidden_size, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size});
  builder.end_stage();
  for (std::int64_t block = 0; block < v.depth; ++block) {
    const std::string prefix = fmt::format("visual.blocks.{}.", block);
    builder.begin_stage(StageKind::kVisionBlock, static_cast<std::int32_t>(block),
                        fmt::format("vision_block.{}", block));
    builder.add(prefix + "norm1.weight", {v.hidden_size});
    builder.add(prefix + "norm2.weight", {v.hidden_size});
    builder.add_linear(prefix + "attn.qkv", 3 * v.hidden_size, v.hidden_size, true);
    builder.add_linear(prefix + "attn.proj", v.hidden_size, v.hidden_size, true);
    builder.add_mlp(prefix + "mlp", v.hidden_size, v.intermediate_size, true);
    builder.end_stage();
  }
  const std::int64_t merged = v.hidden_size * v.spatial_merge_size * v.spatial_merge_size;
  builder.begin_stage(StageKind::kMerger, 0, "merger");
  builder.add("visual.merger.ln_q.weight", {v.hidden_size});
  builder.add_linear("visual.merger.mlp.0", merged, merged, true);
  builder.add_linear("visual.merger.mlp.2", v.out_hidden_size, merged, true);
  builder.end_stage();
}

void add_text(TableBuilder& builder, const TextConfig& t, bool tied) {
  builder.begin_stage(StageKind::kEmbedding, 0, "embedding");
  builder.add("model.embed_tokens.weight", {t.vocab_size, t.hidden_size});
  builder.end_stage();
  const std::int64_t query_width = t.num_attention_heads * t.head_dim();
  const std::int64_t key_width = t.num_key_value_heads * t.head_dim();
  for (std::int64_t block = 0; block < t.num_hidden_layers; ++block) {
    const std::string prefix = fmt::format("model.layers.{}.", block);
    builder.begin_stage(StageKind::kDecoderBlock, static_cast<std::int32_t>(block),
                        fmt::format("decoder_block.{}", block));
    builder.add(prefix + "input_layernorm.weight", {t.hidden_size});
    builder.add(prefix + "post_attention_layernorm.weight", {t.hidden_size});
    builder.add_linear(prefix + "self_attn.q_proj", query_width, t.hidden_size, true);
    builder.add_linear(prefix + "self_attn.k_proj", key_width, t.hidden_size, true);
    builder.add_linear(prefix + "self_attn.v_proj", key_width, t.hidden_size, true);
    builder.add_linear(prefix + "self_attn.o_proj", t.hidden_size, query_width, false);
    builder.add_mlp(prefix + "mlp", t.hidden_size, t.intermediate_size, false);
    builder.end_stage();
  }
  builder.begin_stage(StageKind::kHead, 0, "head");
  builder.add("model.norm.weight", {t.hidden_size});
  if (!tied) builder.add("lm_head.weight", {t.vocab_size, t.hidden_size});
  builder.end_stage();
}

const ParameterInfo& find_parameter(const ArenaTable& table, const std::string& name) {
  const auto found = table.by_name.find(name);
  FERRO_CHECK(found != table.by_name.end(), "no parameter {} in the arena", name);
  return table.parameters[static_cast<std::size_t>(found->second)];
}

/// The parameter's range of a flat buffer as operations see it: vector, [out, in], or [panels, in, 32].
at::Tensor parameter_view(const at::Tensor& flat, const ParameterInfo& info) {
  const at::Tensor range = flat.narrow(0, info.offset, info.size);
  if (info.shape.size() == 1) return range;
  const std::int64_t columns = matrix_columns(info.shape);
  if (info.layout == Layout::kPlain) return range.view({info.shape[0], columns});
  return range.view({info.size / (columns * kPanelWidth), columns, kPanelWidth});
}

at::Tensor export_range(const at::Tensor& flat, const ParameterInfo& info) {
  const at::NoGradGuard no_grad;
  const at::Tensor view = parameter_view(flat, info);
  if (info.layout == Layout::kPlain) return view.clone().view(info.shape);
  // [panels, in, 32] -> [panels, 32, in] -> [rows, in], padding rows cut off.
  return view.permute({0, 2, 1})
      .reshape({view.size(0) * kPanelWidth, view.size(1)})
      .narrow(0, 0, info.shape[0])
      .clone(at::MemoryFormat::Contiguous)
      .view(info.shape);
}

}  // namespace

ArenaTable ArenaTable::make(const ModelConfig& config, bool panels) {
  ArenaTable table;
  TableBuilder builder(table, panels);
  add_vision(builder, config.vision);
  add_text(builder, config.text, config.tie_word_embeddings);
  return table;
}

std::int64_t ArenaTable::num_parameters() const {
  std::int64_t sum = 0;
  for (const ParameterInfo& info : parameters) sum += num_elements(info.shape);
  return sum;
}

ParameterArena ParameterArena::allocate(const ModelConfig& config, bool panels, bool with_gradients) {
  ParameterArena arena;
  arena.table = ArenaTable::make(config, panels);
  arena.weights = at::zeros({arena.table.size}, at::kFloat);
  if (with_gradients) arena.allocate_gradients();
  return arena;
}

void ParameterArena::allocate_gradients() {
  gradients = at::zeros_like(weights);
}

at::Tensor ParameterArena::export_parameter(const std::string& name) const {
  return export_range(weights, find_parameter(table, name));
}

at::Tensor ParameterArena::export_gradient(const std::string& name) const {
  FERRO_CHECK(gradients.defined(), "gradient of {} asked of an arena without gradients", name);
  return export_range(gradients, find_parameter(table, name));
}

void ParameterArena::import_parameter(const std::string& name, const at::Tensor& value) {
  const ParameterInfo& info = find_parameter(table, name);
  if (value.sizes() != at::IntArrayRef(info.shape))
    fail(ErrorCode::kData, "tensor {} has shape [{}], expected [{}]", name, fmt::join(value.sizes(), ", "),
         fmt::join(info.shape, ", "));
  if (!value.is_floating_point())
    fail(ErrorCode::kData, "tensor {} has dtype {}, expected a float type", name,
         at::toString(value.scalar_type()));
  const at::NoGradGuard no_grad;
  const at::Tensor view = parameter_view(weights, info);
  if (info.layout == Layout::kPlain) {
    view.copy_(value.reshape(view.sizes()));
    return;
  }
  const std::int64_t rows = info.shape[0], columns = view.size(1), whole = rows / kPanelWidth;
  const at::Tensor matrix = value.reshape({rows, columns});
  const at::Tensor panels = view.permute({0, 2, 1});  // [panels, 32, in]
  panels.narrow(0, 0, whole)
      .copy_(matrix.narrow(0, 0, whole * kPanelWidth).reshape({whole, kPanelWidth, columns}));
  if (const std::int64_t rest = rows - whole * kPanelWidth; rest > 0)
    panels.select(0, whole).narrow(0, 0, rest).copy_(matrix.narrow(0, whole * kPanelWidth, rest));
}

namespace {

class Binder {
 public:
  explicit Binder(const ParameterArena& arena) : arena_(arena) {}

  Param param(const std::string& name) const {
    const ParameterInfo& info = find_parameter(arena_.table, name);
    Param bound;
    bound.value = parameter_view(arena_.weights, info);
    if (arena_.gradients.defined()) bound.grad = parameter_view(arena_.gradients, info);
    return bound;
  }

  LinearWeights linear(const std::string& prefix) const {
    const std::string weight = prefix + ".weight", bias = prefix + ".bias";
    const ParameterInfo& info = find_parameter(arena_.table, weight);
    LinearWeights bound;
    bound.weight = param(weight);
    if (arena_.table.by_name.contains(bias)) bound.bias = param(bias);
    bound.out = info.shape[0];
    bound.in = matrix_columns(info.shape);
    return bound;
  }

  GatedMlpWeights mlp(const std::string& prefix) const {
    return {linear(prefix + ".gate_proj"), linear(prefix + ".up_proj"), linear(prefix + ".down_proj")};
  }

 private:
  const ParameterArena& arena_;
};

}  // namespace

ModelWeights bind_weights(const ModelConfig& config, const ParameterArena& arena) {
  const Binder binder(arena);
  ModelWeights bound;
  bound.patch_embed.proj = binder.linear("visual.patch_embed.proj");
  for (std::int64_t block = 0; block < config.vision.depth; ++block) {
    const std::string prefix = fmt::format("visual.blocks.{}.", block);
    bound.vision_blocks.push_back({binder.param(prefix + "norm1.weight"),
                                   binder.param(prefix + "norm2.weight"), binder.linear(prefix + "attn.qkv"),
                                   binder.linear(prefix + "attn.proj"), binder.mlp(prefix + "mlp")});
  }
  bound.merger = {binder.param("visual.merger.ln_q.weight"), binder.linear("visual.merger.mlp.0"),
                  binder.linear("visual.merger.mlp.2")};
  bound.embedding = binder.linear("model.embed_tokens");
  for (std::int64_t block = 0; block < config.text.num_hidden_layers; ++block) {
    const std::string prefix = fmt::format("model.layers.{}.", block);
    bound.decoder_blocks.push_back(
        {binder.param(prefix + "input_layernorm.weight"),
         binder.param(prefix + "post_attention_layernorm.weight"), binder.linear(prefix + "self_attn.q_proj"),
         binder.linear(prefix + "self_attn.k_proj"), binder.linear(prefix + "self_attn.v_proj"),
         binder.linear(prefix + "self_attn.o_proj"), binder.mlp(prefix + "mlp")});
  }
  bound.final_norm = binder.param("model.norm.weight");
  bound.head = config.tie_word_embeddings ? bound.embedding : binder.linear("lm_head");
  return bound;
}

}  // namespace ferro
