#include "model/checkpoint_writer.h"

#include <system_error>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "model/staged_folder.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";

/// What makes a folder of weights a model that can be asked.
const char* const kCompanions[] = {"tokenizer.json",
                                   "tokenizer_config.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "merges.txt",
                                   "chat_template.json",
                                   "chat_template.jinja",
                                   "preprocessor_config.json",
                                   "video_preprocessor_config.json",
                                   "processor_config.json",
                                   "generation_config.json"};

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {
    {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

/// The file system's own failure comes late, after minutes of writing.
void check_room(const fs::path& folder, std::uint64_t needed) {
  std::error_code unknown;
  const fs::space_info space = fs::space(folder, unknown);
  if (!unknown && space.available < needed)
    fail(ErrorCode::kIo, "{}: No space left on device: {} bytes of weights, {} bytes are free",
         (folder / kSingleFile).string(), needed, space.available);
}

void write_index(const fs::path& folder, const ShardPlan& plan) {
  nlohmann::json map = nlohmann::json::object();
  for (const ShardPlan::Shard& shard : plan.shards)
    for (const NamedShape& tensor : shard.tensors) map[tensor.name] = shard.file;
  const nlohmann::json index = {
      {"metadata", {{"total_parameters", plan.num_parameters}, {"total_size", plan.num_bytes}}},
      {"weight_map", std::move(map)}};
  write_file_atomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

/// The index comes last: shards without it are no checkpoint.
std::string write_weights(const fs::path& folder, const ShardPlan& plan, at::ScalarType dtype,
                          const TensorSource& source) {
  check_room(folder, plan.num_bytes);
  std::string sums;
  for (const ShardPlan::Shard& shard : plan.shards) {
    SafetensorsWriter writer(folder / shard.file, shard.tensors, dtype);
    for (const NamedShape& tensor : shard.tensors) source(tensor, writer);
    const std::string sum = writer.finish();
    if (plan.shards.size() == 1) return sum;
    sums += sum + "  " + shard.file + "\n";
  }
  write_index(folder, plan);
  return sha256_of(sums);
}

}  // namespace

const char* config_dtype_name(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes)
    if (known.type == dtype) return known.name;
  FERRO_CHECK(false, "weights are not written as {}", at::toString(dtype));
}

at::ScalarType config_dtype(const std::string& name) {
  for (const DtypeName& known : kDtypes)
    if (name == known.name) return known.type;
  fail(ErrorCode::kUsage, "no dtype \"{}\"; known: float32, bfloat16, float16", name);
}

ShardPlan plan_shards(const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                      std::uint64_t max_shard_bytes) {
  ShardPlan plan;
  std::uint64_t filled = 0;
  for (const NamedShape& tensor : tensors) {
    const std::uint64_t bytes = num_bytes(tensor, dtype);
    if (plan.shards.empty() || filled + bytes > max_shard_bytes) {
      plan.shards.emplace_back();
      filled = 0;
    }
    plan.shards.back().tensors.push_back(tensor);
    filled += bytes;
    plan.num_bytes += bytes;
    plan.num_parameters += bytes / at::elementSize(dtype);
  }
  for (std::size_t i = 0; i < plan.shards.size(); ++i)
    plan.shards[i].file = plan.shards.size() == 1
                              ? kSingleFile
                              : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, plan.shards.size());
  return plan;
}

std::string write_model_folder(const fs::path& folder, const ModelConfig& config, const fs::path& companions,
                               const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                               std::uint64_t max_shard_bytes, const TensorSource& source) {
  StagedFolder staged(folder);
  config.save(staged.path() / "config.json", config_dtype_name(dtype));
  config.save_generation_config(staged.path() / "generation_config.json");
  if (!companions.empty())
    for (const char* name : kCompanions)
      if (fs::exists(companions / name))
        write_file_atomically(staged.path() / name, read_file(companions / name));
  const std::string checksum =
      write_weights(staged.path(), plan_shards(tensors, dtype, max_shard_bytes), dtype, source);
  staged.publish();
  return checksum;
}

}  // namespace ferro
