#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/safetensors.h"

namespace ferro {

/// The tensors of a Hugging Face folder under their hub names: model.safetensors, or shards with
/// model.safetensors.index.json. One thread.
class CheckpointReader {
 public:
  /// Error{kIo}: no weights there, a shard is missing. Error{kData}: broken index or file, a tensor under
  /// both of its names.
  explicit CheckpointReader(const std::filesystem::path& folder);

  struct Place {
    std::size_t file = 0;
    std::string name;  ///< As in the file.
  };
  const std::map<std::string, Place>& places() const { return places_; }
  at::Tensor tensor(const std::string& hub_name) const;
  void release(const std::string& hub_name) const;  ///< SafetensorsFile::release.
  const SafetensorsFile::Entry& entry(const std::string& hub_name) const;

 private:
  void add_file(const std::filesystem::path& path);
  void add_shards(const std::filesystem::path& index_path);
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> places_;
};

}  // namespace ferro
