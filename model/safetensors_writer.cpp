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
  if (dtype == at::kByte) return "U8";
  FERRO_CHECK(false, "weights are not written as {}", at::toString(dtype));
}

std::string make_header(const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const NamedShape& tensor : tensors) {
    FERRO_CHECK(!header.contains(tensor.name), "tensor {} is written twice", tensor.name);
    const std::uint64_t bytes = num_bytes(tensor, dtype);
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

std::uint64_t num_bytes(const NamedShape& tensor, at::ScalarType dtype) {
  std::uint64_t bytes = at::elementSize(dtype);
  for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
  return bytes;
}

struct SafetensorsWriter::Impl {
  Impl(const std::filesystem::path& path, const std::vector<NamedShape>& announced, at::ScalarType type)
      : file(path), tensors(announced), dtype(type) {}

  AtomicFile file;
  Sha256 checksum;
  std::vector<NamedShape> tensors;
  at::ScalarType dtype;
  std::uint64_t expected = 0, written = 0;  ///< Bytes of data.
  std::size_t next = 0;

  void write(std::span<const std::byte> bytes) {
    checksum.update(bytes);
    file.write(bytes);
  }
};

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                                     const std::map<std::string, std::string>& metadata)
    : impl_(std::make_unique<Impl>(path, tensors, dtype)) {
  const std::string header = make_header(tensors, dtype, metadata);
  impl_->write(std::as_bytes(std::span(header)));
  for (const NamedShape& tensor : tensors) impl_->expected += num_bytes(tensor, dtype);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  impl_->written += bytes.size();
  FERRO_CHECK(impl_->written <= impl_->expected, "{} bytes of tensors, {} were announced", impl_->written,
              impl_->expected);
  impl_->write(bytes);
}

void SafetensorsWriter::write(const at::Tensor& tensor) {
  FERRO_CHECK(impl_->next < impl_->tensors.size(), "more than {} tensors", impl_->tensors.size());
  const NamedShape& expected = impl_->tensors[impl_->next++];
  FERRO_CHECK(tensor.sizes() == at::IntArrayRef(expected.shape),
              "tensor {} has shape [{}], announced as [{}]", expected.name, fmt::join(tensor.sizes(), ", "),
              fmt::join(expected.shape, ", "));
  const at::Tensor converted = tensor.to(at::kCPU, impl_->dtype).contiguous();
  write(std::span(static_cast<const std::byte*>(converted.const_data_ptr()), converted.nbytes()));
}

std::string SafetensorsWriter::finish() {
  FERRO_CHECK(impl_->written == impl_->expected, "{} bytes of tensors, {} were announced", impl_->written,
              impl_->expected);
  impl_->file.commit();
  return impl_->checksum.hex();
}

std::string write_safetensors(const std::filesystem::path& path, const std::vector<NamedShape>& tensors,
                              at::ScalarType dtype, const std::function<at::Tensor(const std::string&)>& get,
                              const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, tensors, dtype, metadata);
  for (const NamedShape& tensor : tensors) writer.write(get(tensor.name));
  return writer.finish();
}

}  // namespace ferro
