#include <algorithm>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "model/lora.h"
#include "model/safetensors.h"
#include "model/staged_folder.h"
#include "model/tensor_names.h"

// PEFT's layout: adapter_config.json, and adapter_model.safetensors with names such as
// "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight".

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kTensorFile = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

std::string peft_name(const std::string& hub_name) {
  return std::string(kPrefix) + in_memory_tensor_name(hub_name);
}

/// Names that end with a whole name's parts in either naming of the base, and match no other layer.
std::vector<std::string> target_names(const ArenaTable& table) {
  constexpr std::string_view kText = "model.";
  std::vector<std::string> names;
  for (const ParameterInfo& info : table.parameters) {
    if (!info.name.ends_with(kA)) continue;
    const std::string module = info.name.substr(0, info.name.size() - kA.size());
    names.push_back(module.starts_with(kText) ? module.substr(kText.size()) : module);
  }
  return names;
}

json config_json(const LoraAdapter& adapter, const std::string& base) {
  const LoraConfig& config = adapter.config;
  const auto whole = static_cast<std::int64_t>(config.alpha);
  json out{{"peft_type", "LORA"},
           {"task_type", "CAUSAL_LM"},
           {"base_model_name_or_path", base},
           {"r", config.r},
           {"lora_dropout", config.dropout},
           {"target_modules", target_names(adapter.arena.table)},
           {"bias", "none"},
           {"fan_in_fan_out", false},
           {"inference_mode", true},
           {"init_lora_weights", true},
           {"modules_to_save", nullptr},
           {"use_dora", false},
           {"use_rslora", false}};
  if (static_cast<double>(whole) == config.alpha) {
    out["lora_alpha"] = whole;
  } else {
    out["lora_alpha"] = config.alpha;
  }
  return out;
}

[[noreturn]] void refuse(const fs::path& file, const std::string& what) {
  fail(ErrorCode::kData, "{}: {}", file.string(), what);
}

/// Variants of LoRA whose sum is another.
void check_plain(const json& config, const fs::path& file) {
  if (config.value("peft_type", std::string()) != "LORA") refuse(file, "peft_type is not LORA");
  for (const char* key : {"use_dora", "use_rslora", "fan_in_fan_out", "lora_bias"})
    if (config.contains(key) && config.at(key).is_boolean() && config.at(key).get<bool>())
      refuse(file, std::string(key) + " is set, which is not supported");
  for (const char* key : {"rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices"})
    if (config.contains(key) && !config.at(key).empty())
      refuse(file, std::string(key) + " is not empty, which is not supported");
  if (config.contains("bias") && config.at("bias") != "none") refuse(file, "bias is not `none`");
}

LoraConfig read_config(const fs::path& file) {
  const json parsed = json::parse(read_file(file), nullptr, false);
  if (!parsed.is_object()) refuse(file, "not a JSON object");
  check_plain(parsed, file);
  LoraConfig config;
  const auto number = [&](const char* key) {
    if (!parsed.contains(key) || !parsed.at(key).is_number())
      refuse(file, std::string(key) + " is no number");
    return parsed.at(key).get<double>();
  };
  const double rank = number("r");
  if (!(rank >= 1 && rank <= 4096) || rank != static_cast<double>(static_cast<std::int64_t>(rank)))
    refuse(file, fmt::format("r is {}", rank));
  config.r = static_cast<std::int64_t>(rank);
  config.alpha = number("lora_alpha");
  config.dropout = parsed.contains("lora_dropout") ? number("lora_dropout") : 0.0;
  if (!(config.dropout >= 0 && config.dropout < 1))
    refuse(file, fmt::format("lora_dropout is {}", config.dropout));
  return config;
}

}  // namespace

std::string save_adapter(const Model& model, const fs::path& folder, const std::string& base) {
  FERRO_CHECK(model.adapter != nullptr, "the model has no adapter to save");
  const LoraAdapter& adapter = *model.adapter;
  StagedFolder staged(folder, kConfigFile);
  write_file_atomically(staged.path() / kConfigFile, config_json(adapter, base).dump(2) + "\n");
  std::vector<NamedShape> tensors;
  for (const ParameterInfo& info : adapter.arena.table.parameters)
    tensors.push_back({peft_name(info.name), info.shape});
  const std::string checksum =
      write_safetensors(staged.path() / kTensorFile, tensors, at::kFloat, [&](const std::string& name) {
        return adapter.arena.export_parameter(hub_tensor_name(name.substr(kPrefix.size())));
      });
  staged.publish();
  return checksum;
}

LoraAdapter load_adapter(const fs::path& folder, const Model& base) {
  const fs::path file = folder / kTensorFile;
  const LoraConfig config = read_config(folder / kConfigFile);
  const SafetensorsFile tensors(file);
  std::map<std::string, std::string> name_in_file;
  std::set<std::string> modules;
  for (const auto& [name, entry] : tensors.entries()) {
    if (!name.starts_with(kPrefix)) refuse(file, name + " does not begin with base_model.model.");
    const std::string hub = hub_tensor_name(std::string_view(name).substr(kPrefix.size()));
    if (!hub.ends_with(kA) && !hub.ends_with(kB))
      refuse(file, name + " is no lora_A or lora_B of a linear layer");
    if (!name_in_file.emplace(hub, name).second) refuse(file, name + " is there under two names");
    if (hub.ends_with(kA)) modules.insert(hub.substr(0, hub.size() - kA.size()));
  }
  const auto adapted = [&](const ParameterInfo& info) {
    constexpr std::string_view kWeight = ".weight";
    return info.shape.size() == 2 && info.name.ends_with(kWeight) &&
           !info.name.ends_with("embed_tokens.weight") &&
           modules.contains(info.name.substr(0, info.name.size() - kWeight.size()));
  };
  LoraAdapter adapter = allocate_lora(base, config, low_rank_table(base.arena.table, config.r, adapted), 0);
  for (const ParameterInfo& info : adapter.arena.table.parameters) {
    const auto found = name_in_file.find(info.name);
    if (found == name_in_file.end()) refuse(file, info.name + " is missing");
    adapter.arena.import_parameter(info.name, tensors.tensor(found->second));
    name_in_file.erase(found);
  }
  if (!name_in_file.empty())
    refuse(file, name_in_file.begin()->second + " adapts a layer that the base has not");
  if (adapter.arena.table.parameters.empty()) refuse(file, "no tensors");
  return adapter;
}

}  // namespace ferro
