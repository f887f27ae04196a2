#include "model/arena.h"

#include <numeric>
#include <string_view>
#include <utility>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/keyed_random.h"
#include "model/lora.h"
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

std::size_t find_index(const ArenaTable& table, const std::string& name) {
  const auto found = table.by_name.find(name);
  FERRO_CHECK(found != table.by_name.end(), "no parameter {} in the arena", name);
  return static_cast<std::size_t>(found->second);
}

const ParameterInfo& find_parameter(const ArenaTable& table, const std::string& name) {
  return table.parameters[find_index(table, name)];
}

/// The parameter's range of a flat buffer as operations see it: vector, [out, in], or [panels, in, 32].
at::Tensor parameter_view(const at::Tensor& flat, const ParameterInfo& info, std::int64_t offset) {
  const at::Tensor range = flat.narrow(0, offset, info.size);
  if (info.shape.size() == 1) return range;
  const std::int64_t columns = matrix_columns(info.shape);
  if (info.layout == Layout::kPlain) return range.view({info.shape[0], columns});
  return range.view({info.size / (columns * kPanelWidth), columns, kPanelWidth});
}

at::Tensor export_range(const at::Tensor& flat, const ParameterInfo& info, std::int64_t offset) {
  const at::NoGradGuard no_grad;
  const at::Tensor view = parameter_view(flat, info, offset);
  if (info.layout == Layout::kPlain) return view.clone().view(info.shape);
  // [panels, in, 32] -> [panels, 32, in] -> [rows, in], padding rows left out.
  const std::int64_t rows = info.shape[0], columns = view.size(1), whole = rows / kPanelWidth;
  const at::Tensor matrix = at::empty({rows, columns}, view.options());
  const at::Tensor panels = view.permute({0, 2, 1});
  matrix.narrow(0, 0, whole * kPanelWidth)
      .view({whole, kPanelWidth, columns})
      .copy_(panels.narrow(0, 0, whole));
  if (const std::int64_t rest = rows - whole * kPanelWidth; rest > 0)
    matrix.narrow(0, whole * kPanelWidth, rest).copy_(panels.select(0, whole).narrow(0, 0, rest));
  return matrix.view(info.shape);
}

}  // namespace

ArenaTable ArenaTable::make(const ModelConfig& config, bool panels) {
  ArenaTable table;
  TableBuilder builder(table, panels);
  add_vision(builder, config.vision);
  add_text(builder, config.text, config.tie_word_embeddings);
  return table;
}

ArenaTable ArenaTable::low_rank(const ArenaTable& base, bool panels, std::int64_t rank,
                                const ParameterFilter& adapted) {
  constexpr std::string_view kWeight = ".weight";
  ArenaTable table;
  TableBuilder builder(table, panels);
  for (const StageInfo& stage : base.stages) {
    builder.begin_stage(stage.kind, stage.index, stage.name);
    for (std::int32_t i = stage.first_parameter; i < stage.last_parameter; ++i) {
      const ParameterInfo& info = base.parameters[static_cast<std::size_t>(i)];
      if (!adapted(info)) continue;
      FERRO_CHECK(info.shape.size() == 2 && info.name.ends_with(kWeight), "{} is no linear layer's weight",
                  info.name);
      const std::string module = info.name.substr(0, info.name.size() - kWeight.size());
      builder.add(module + ".lora_A.weight", {rank, info.shape[1]});
      builder.add(module + ".lora_B.weight", {info.shape[0], rank});
    }
    builder.end_stage();
  }
  return table;
}

ModelPart part_of(const std::string& hub_name) {
  if (hub_name.starts_with("visual.merger.")) return ModelPart::kMerger;
  return hub_name.starts_with("visual.") ? ModelPart::kVision : ModelPart::kLanguage;
}

TrainedSet TrainedSet::all(const ArenaTable& table) {
  TrainedSet set;
  for (const ParameterInfo& info : table.parameters) set.offsets.push_back(info.offset);
  set.size = table.size;
  return set;
}

TrainedSet TrainedSet::make(const ArenaTable& table, const ParameterFilter& trained) {
  TrainedSet set;
  for (const StageInfo& stage : table.stages) {
    set.size = round_up(set.size, kStageAlignment);
    for (std::int32_t i = stage.first_parameter; i < stage.last_parameter; ++i) {
      const ParameterInfo& info = table.parameters[static_cast<std::size_t>(i)];
      set.offsets.push_back(-1);
      if (!trained(info)) continue;
      set.offsets.back() = set.size = round_up(set.size, kParameterAlignment);
      set.size += info.size;
    }
    set.size = round_up(set.size, kStageAlignment);
  }
  return set;
}

std::int64_t ArenaTable::num_parameters() const {
  std::int64_t sum = 0;
  for (const ParameterInfo& info : parameters) sum += num_elements(info.shape);
  return sum;
}

ParameterArena ParameterArena::allocate(const ModelConfig& config, bool panels, bool with_gradients,
                                        at::ScalarType dtype) {
  ParameterArena arena;
  arena.table = ArenaTable::make(config, panels);
  arena.weights = at::zeros({arena.table.size}, dtype);
  if (with_gradients) arena.allocate_gradients();
  return arena;
}

void ParameterArena::allocate_gradients() {
  allocate_gradients(TrainedSet::all(table));
}

void ParameterArena::allocate_gradients(TrainedSet set) {
  FERRO_CHECK(set.offsets.size() == table.parameters.size(), "a trained set of {} parameters for {}",
              set.offsets.size(), table.parameters.size());
  trained = std::move(set);
  gradients = at::zeros({trained.size}, weights.options());
}

at::Tensor ParameterArena::export_parameter(const std::string& name) const {
  const ParameterInfo& info = find_parameter(table, name);
  return export_range(weights, info, info.offset);
}

at::Tensor ParameterArena::export_gradient(const std::string& name) const {
  FERRO_CHECK(gradients.defined(), "gradient of {} asked of an arena without gradients", name);
  const std::size_t index = find_index(table, name);
  FERRO_CHECK(trained.offsets[index] >= 0, "gradient of {} asked, which is frozen", name);
  return export_range(gradients, table.parameters[index], trained.offsets[index]);
}

void ParameterArena::import_parameter(const std::string& name, const at::Tensor& value) {
  const ParameterInfo& info = find_parameter(table, name);
  if (value.sizes() != at::IntArrayRef(info.shape))
    fail(ErrorCode::kData, "tensor {} has shape [{}], expected [{}]", name, fmt::join(value.sizes(), ", "),
         fmt::join(info.shape, ", "));
  if (!value.is_floating_point())
    fail(ErrorCode::kData, "tensor {} has dtype {}, expected a float type", name,
         at::toString(value.scalar_type()));
  import_rows(name, 0, value);
}

void ParameterArena::import_rows(const std::string& name, std::int64_t first, const at::Tensor& value) {
  const ParameterInfo& info = find_parameter(table, name);
  const at::NoGradGuard no_grad;
  const at::Tensor view = parameter_view(weights, info, info.offset);
  const std::int64_t rows = value.size(0);
  FERRO_CHECK(first >= 0 && first + rows <= info.shape[0], "rows {} to {} of {}, which has {}", first,
              first + rows, name, info.shape[0]);
  if (info.layout == Layout::kPlain) {
    const at::Tensor place = view.narrow(0, first, rows);
    place.copy_(value.reshape(place.sizes()));
    return;
  }
  FERRO_CHECK(first % kPanelWidth == 0, "row {} of {} is not the first of a panel", first, name);
  const std::int64_t columns = view.size(1), whole = rows / kPanelWidth, panel = first / kPanelWidth;
  const at::Tensor matrix = value.reshape({rows, columns});
  const at::Tensor panels = view.permute({0, 2, 1});  // [panels, 32, in]
  panels.narrow(0, panel, whole)
      .copy_(matrix.narrow(0, 0, whole * kPanelWidth).reshape({whole, kPanelWidth, columns}));
  if (const std::int64_t rest = rows - whole * kPanelWidth; rest > 0)
    panels.select(0, panel + whole).narrow(0, 0, rest).copy_(matrix.narrow(0, whole * kPanelWidth, rest));
}

namespace {

/// Views of one arena's parameters.
class ArenaViews {
 public:
  explicit ArenaViews(const ParameterArena& arena) : arena_(arena) {}

  bool contains(const std::string& name) const { return arena_.table.by_name.contains(name); }
  Param param(const std::string& name) const {
    const std::size_t index = find_index(arena_.table, name);
    const ParameterInfo& info = arena_.table.parameters[index];
    Param bound;
    bound.value = parameter_view(arena_.weights, info, info.offset);
    if (arena_.gradients.defined() && arena_.trained.offsets[index] >= 0)
      bound.grad = parameter_view(arena_.gradients, info, arena_.trained.offsets[index]);
    return bound;
  }
  LinearWeights matrix(const std::string& name) const {
    const ParameterInfo& info = find_parameter(arena_.table, name);
    LinearWeights bound;
    bound.weight = param(name);
    bound.out = info.shape[0];
    bound.in = matrix_columns(info.shape);
    return bound;
  }

 private:
  const ParameterArena& arena_;
};

class Binder {
 public:
  Binder(const ParameterArena& arena, const LoraAdapter* adapter) : base_(arena), adapter_(adapter) {}

  Param param(const std::string& name) const { return base_.param(name); }

  LinearWeights linear(const std::string& module) const {
    LinearWeights bound = base_.matrix(module + ".weight");
    if (base_.contains(module + ".bias")) bound.bias = base_.param(module + ".bias");
    if (adapter_ != nullptr) bound.adapter = low_rank(module);
    return bound;
  }

  GatedMlpWeights mlp(const std::string& prefix) const {
    return {linear(prefix + ".gate_proj"), linear(prefix + ".up_proj"), linear(prefix + ".down_proj")};
  }

 private:
  std::shared_ptr<const LowRankWeights> low_rank(const std::string& module) const {
    const ArenaViews views(adapter_->arena);
    const std::string a = module + ".lora_A.weight", b = module + ".lora_B.weight";
    if (!views.contains(a)) return nullptr;
    auto bound = std::make_shared<LowRankWeights>();
    bound->a = views.matrix(a);
    bound->b = views.matrix(b);
    bound->scale = adapter_->config.scale();
    bound->layer = coordinate_of(module.data(), module.size());
    bound->dropout = adapter_->dropout;
    return bound;
  }

  ArenaViews base_;
  const LoraAdapter* adapter_;
};

}  // namespace

ModelWeights bind_weights(const ModelConfig& config, const ParameterArena& arena,
                          const LoraAdapter* adapter) {
  const Binder binder(arena, adapter);
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
