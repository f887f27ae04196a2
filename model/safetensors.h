#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/aten.h"
#include "model/safetensors_header.h"

namespace ferro {

/// A memory-mapped .safetensors file, its header checked (model/safetensors_header.h). Error{kData} naming
/// file and tensor, Error{kIo}.
class SafetensorsFile {
 public:
  using Entry = SafetensorsEntry;
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::map<std::string, Entry>& entries() const;
  bool contains(const std::string& name) const;
  /// A view onto the mapping (alive as long as the tensor is); read-only by contract.
  at::Tensor tensor(const std::string& name) const;

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
};

/// Writes tensors in the given order, streaming; atomic (temporary, fsync, rename). Returns the file's
/// SHA-256.
struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;
};
std::string write_safetensors(const std::filesystem::path& path, const std::vector<NamedShape>& tensors,
                              at::ScalarType dtype, const std::function<at::Tensor(const std::string&)>& get,
                              const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace ferro
