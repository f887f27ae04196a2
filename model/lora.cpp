#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr const char* kAllLinear = "all-linear";

/// The linear layer that a weight belongs to; empty for norms, the patch embedding's kernel and the token
/// embedding.
std::string module_of(const ParameterInfo& info) {
  if (info.shape.size() != 2 || !info.name.ends_with(kWeight) || info.name.ends_with("embed_tokens.weight"))
    return {};
  return info.name.substr(0, info.name.size() - kWeight.size());
}

/// PEFT's rule: the whole name, or its end after a dot.
bool ends_with_target(const std::string& module, const std::string& target) {
  return module == target || module.ends_with("." + target);
}

bool is_target(const std::string& module, const std::vector<std::string>& targets) {
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& target) {
    return target == kAllLinear ? module != "lm_head" : ends_with_target(module, target);
  });
}

void check_target(const std::string& target, const ArenaTable& base) {
  if (target == kAllLinear) return;
  std::set<std::string> known;
  for (const ParameterInfo& info : base.parameters) {
    const std::string module = module_of(info);
    if (module.empty()) continue;
    if (ends_with_target(module, target)) return;
    const bool numbered = module.find_last_not_of("0123456789") + 1 < module.size();
    const std::size_t dot = module.rfind('.', numbered ? module.rfind('.') - 1 : std::string::npos);
    known.insert(dot == std::string::npos ? module : module.substr(dot + 1));
  }
  if (ends_with_target("lm_head", target))
    fail(ErrorCode::kConfig, "target_modules: the head is tied to the embedding and cannot be adapted");
  fail(ErrorCode::kConfig, "target_modules: no linear layer's name ends with `{}`; there are {}", target,
       fmt::join(known, ", "));
}

void initialise_a(ParameterArena& arena, std::uint64_t seed) {
  for (const ParameterInfo& info : arena.table.parameters) {
    if (!info.name.ends_with(".lora_A.weight")) continue;
    const at::Tensor value = at::empty(info.shape, at::kFloat);
    const double bound = 1.0 / std::sqrt(static_cast<double>(info.shape[1]));
    KeyedRandom random(seed, RandomPurpose::kInitialisation,
                       {coordinate_of(info.name.data(), info.name.size())});
    float* out = value.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < value.numel(); ++i)
      out[i] = static_cast<float>(random.uniform(-bound, bound));
    arena.import_parameter(info.name, value);
  }
}

}  // namespace

ArenaTable lora_table(const ArenaTable& base, const LoraConfig& config, const TrainedParts& parts) {
  if (config.r < 1) fail(ErrorCode::kConfig, "lora.r is {}: an adapter has at least rank 1", config.r);
  for (const std::string& target : config.target_modules) check_target(target, base);
  const ArenaTable table = low_rank_table(base, config.r, [&](const ParameterInfo& info) {
    const std::string module = module_of(info);
    return !module.empty() && parts.contains(part_of(info.name)) && is_target(module, config.target_modules);
  });
  if (table.parameters.empty())
    fail(ErrorCode::kConfig, "target_modules: none of [{}] is in a part that is trained",
         fmt::join(config.target_modules, ", "));
  return table;
}

ArenaTable low_rank_table(const ArenaTable& base, std::int64_t rank, const ParameterFilter& adapted) {
  const bool panels = std::any_of(base.parameters.begin(), base.parameters.end(),
                                  [](const ParameterInfo& info) { return info.layout == Layout::kPanels; });
  return ArenaTable::low_rank(base, panels, rank, adapted);
}

LoraAdapter allocate_lora(const Model& base, const LoraConfig& config, ArenaTable table, std::uint64_t seed) {
  LoraAdapter adapter;
  adapter.config = config;
  adapter.arena.table = std::move(table);
  adapter.arena.weights = at::zeros({adapter.arena.table.size}, base.arena.weights.options());
  adapter.dropout = std::make_shared<DropoutState>();
  adapter.dropout->rate = config.dropout;
  adapter.dropout->seed = seed;
  return adapter;
}

LoraAdapter make_lora(const Model& base, const LoraConfig& config, const TrainedParts& parts,
                      std::uint64_t seed) {
  LoraAdapter adapter = allocate_lora(base, config, lora_table(base.arena.table, config, parts), seed);
  initialise_a(adapter.arena, seed);
  return adapter;
}

void attach_adapter(Model& model, std::shared_ptr<LoraAdapter> adapter, bool with_gradients) {
  FERRO_CHECK(adapter != nullptr, "no adapter to attach");
  model.arena.gradients.reset();
  model.arena.trained = {};
  if (with_gradients) adapter->arena.allocate_gradients();
  model.weights = bind_weights(model.config, model.arena, adapter.get());
  model.adapter = std::move(adapter);
}

Model base_of(const Model& model) {
  Model base;
  base.config = model.config;
  base.arena.table = model.arena.table;
  base.arena.weights = model.arena.weights;
  base.weights = bind_weights(base.config, base.arena);
  return base;
}

at::Tensor merged_parameter(const Model& model, const std::string& name) {
  const at::NoGradGuard no_grad;
  at::Tensor value = model.arena.export_parameter(name);
  if (model.adapter == nullptr || !name.ends_with(kWeight)) return value;
  const ParameterArena& low_rank = model.adapter->arena;
  const std::string module = name.substr(0, name.size() - kWeight.size()), a = module + ".lora_A.weight";
  if (!low_rank.table.by_name.contains(a)) return value;
  return value.addmm_(low_rank.export_parameter(module + ".lora_B.weight"), low_rank.export_parameter(a), 1,
                      model.adapter->config.scale());
}

}  // namespace ferro
