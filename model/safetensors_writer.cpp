#include <set>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "model/safetensors.h"

namespace ferro {
namespace {

const char* dtype_name(at::ScalarType dtype) {
  if (dtype == at::kFloat) return "F32";
  if (dtype == at::kBFloat16) return "BF16";
  if (dtype == at::kHalf) return "F16";
  FERRO_CHECK(false, "weights are not written as {}", at::toString(dtype));
}

std::string make_header(const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const NamedShape& tensor : tensors) {
    FERRO_CHECK(!header.contains(tensor.name), "tensor {} is written twice", tensor.name);
    std::uint64_t bytes = at::elementSize(dtype);
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
    header[tensor.name] = {
        {"dtype", dtype_name(dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // Data begins at a multiple of 8.
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

}  // namespace

std::string write_safetensors(const std::filesystem::path& path, const std::vector<NamedShape>& tensors,
                              at::ScalarType dtype, const std::function<at::Tensor(const std::string&)>& get,
                              const std::map<std::string, std::string>& metadata) {
  AtomicFile file(path);
  Sha256 checksum;
  const auto write = [&](std::span<const std::byte> bytes) {
    checksum.update(bytes);
    file.write(bytes);
  };
  const std::string header = make_header(tensors, dtype, metadata);
  write(std::as_bytes(std::span(header)));
  for (const NamedShape& expected : tensors) {
    const at::Tensor tensor = get(expected.name).to(at::kCPU, dtype).contiguous();
    FERRO_CHECK(tensor.sizes() == at::IntArrayRef(expected.shape),
                "tensor {} has shape [{}], announced as [{}]", expected.name, fmt::join(tensor.sizes(), ", "),
                fmt::join(expected.shape, ", "));
    write({static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
  }
  file.commit();
  return checksum.hex();
}

}  // namespace ferro
