#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
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
  /// Gives the tensor's pages back to the system: they are read again when somebody looks.
  void release(const std::string& name) const;

 private:
  struct Mapping;
  std::shared_ptr<Mapping> mapping_;
};

struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Bytes that a tensor of this shape takes.
std::uint64_t num_bytes(const NamedShape& tensor, at::ScalarType dtype);

/// A .safetensors file in the making: the announced tensors' bytes, one after another, in any pieces. Atomic
/// (temporary, fsync, rename): the file is there after finish() or not at all. Error{kIo}.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<NamedShape>& tensors,
                    at::ScalarType dtype,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();
  void write(std::span<const std::byte> bytes);
  /// The next tensor, converted to the file's dtype. Error{kInternal} when it has not the announced shape.
  void write(const at::Tensor& tensor);
  /// Returns the file's SHA-256. Error{kInternal} when bytes are missing.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// All tensors through a SafetensorsWriter.
std::string write_safetensors(const std::filesystem::path& path, const std::vector<NamedShape>& tensors,
                              at::ScalarType dtype, const std::function<at::Tensor(const std::string&)>& get,
                              const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace ferro
