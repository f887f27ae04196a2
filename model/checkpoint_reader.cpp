#include "model/checkpoint_reader.h"

#include <set>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "model/tensor_names.h"

namespace ferro {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxIndexBytes = 1 << 28;

/// weight_map of an index: tensor -> shard. Shards are plain names inside the folder.
std::map<std::string, std::string> read_weight_map(const std::filesystem::path& path) {
  json root;
  try {
    root = json::parse(read_file(path, kMaxIndexBytes));
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: not JSON: {}", path.string(), error.what());
  }
  if (!root.is_object() || !root.contains("weight_map") || !root.at("weight_map").is_object())
    fail(ErrorCode::kData, "{}: no weight_map", path.string());
  std::map<std::string, std::string> shards;
  for (const auto& [name, value] : root.at("weight_map").items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (shard.empty() || shard.starts_with('.') || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos)
      fail(ErrorCode::kData, "{}: tensor {}: {} is not a file name", path.string(), name, value.dump());
    shards.emplace(name, shard);
  }
  return shards;
}

}  // namespace

CheckpointReader::CheckpointReader(const std::filesystem::path& folder) {
  const std::filesystem::path single = folder / "model.safetensors",
                              index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) {
    add_file(single);
  } else if (std::filesystem::exists(index)) {
    add_shards(index);
  } else {
    fail(ErrorCode::kIo, "{}: neither model.safetensors nor model.safetensors.index.json is there",
         folder.string());
  }
}

void CheckpointReader::add_file(const std::filesystem::path& path) {
  files_.emplace_back(path);
  for (const auto& [name, entry] : files_.back().entries()) {
    const auto [place, added] = places_.emplace(hub_tensor_name(name), Place{files_.size() - 1, name});
    if (!added)
      fail(ErrorCode::kData, "{}: tensor {} is there twice (also as {})", path.string(), name,
           place->second.name);
  }
}

void CheckpointReader::add_shards(const std::filesystem::path& index_path) {
  const std::map<std::string, std::string> weight_map = read_weight_map(index_path);
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map) shards.insert(shard);
  std::map<std::string, std::size_t> numbers;
  for (const std::string& shard : shards) {
    numbers[shard] = files_.size();
    add_file(index_path.parent_path() / shard);
  }
  std::string wrong;
  for (const auto& [name, shard] : weight_map)
    if (!files_[numbers[shard]].contains(name)) wrong += fmt::format("\n  {} is not in {}", name, shard);
  for (const auto& [name, place] : places_)
    if (!weight_map.contains(place.name))
      wrong += fmt::format("\n  {} is in a shard but not in the index", place.name);
  if (!wrong.empty()) fail(ErrorCode::kData, "{}: index and shards disagree:{}", index_path.string(), wrong);
}

at::Tensor CheckpointReader::tensor(const std::string& hub_name) const {
  const Place& place = places_.at(hub_name);
  return files_[place.file].tensor(place.name);
}

void CheckpointReader::release(const std::string& hub_name) const {
  const Place& place = places_.at(hub_name);
  files_[place.file].release(place.name);
}

const SafetensorsFile::Entry& CheckpointReader::entry(const std::string& hub_name) const {
  const Place& place = places_.at(hub_name);
  return files_[place.file].entries().at(place.name);
}

}  // namespace ferro
