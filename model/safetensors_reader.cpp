#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"
#include "model/safetensors.h"

namespace ferro {
namespace {

/// None: the header is checked with this dtype, but tensor() refuses it.
std::optional<at::ScalarType> scalar_type_of(const std::string& dtype) {
  constexpr std::pair<const char*, at::ScalarType> kTypes[] = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
      {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort}, {"I8", at::kChar},
      {"U8", at::kByte},    {"BOOL", at::kBool}};
  for (const auto& [name, type] : kTypes)
    if (dtype == name) return type;
  return std::nullopt;
}

}  // namespace

struct SafetensorsFile::Mapping {
  std::string path;
  void* address = MAP_FAILED;
  std::uint64_t size = 0;
  const std::byte* data = nullptr;
  std::map<std::string, Entry> entries;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (address != MAP_FAILED) ::munmap(address, size);
  }

  const Entry& find(const std::string& name) const {
    const auto found = entries.find(name);
    if (found == entries.end()) fail(ErrorCode::kData, "{}: no tensor {}", path, name);
    return found->second;
  }

  void map_file() {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail(ErrorCode::kIo, "{}: cannot open: {}", path, std::strerror(errno));
    struct stat status {};
    const bool known = ::fstat(descriptor, &status) == 0;
    if (known && S_ISREG(status.st_mode) && status.st_size > 0) {
      size = static_cast<std::uint64_t>(status.st_size);
      address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    const int reason = errno;
    ::close(descriptor);
    if (!known || !S_ISREG(status.st_mode)) fail(ErrorCode::kIo, "{}: not a regular file", path);
    if (size > 0 && address == MAP_FAILED)
      fail(ErrorCode::kIo, "{}: cannot map: {}", path, std::strerror(reason));
  }

  void read_header() {
    SafetensorsHeader header = read_safetensors_header({static_cast<const std::byte*>(address), size}, path);
    data = static_cast<const std::byte*>(address) + header.data_begin;
    entries = std::move(header.entries);
  }
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) {
  const auto mapping = std::make_shared<Mapping>();
  mapping->path = path.string();
  mapping->map_file();
  mapping->read_header();
  mapping_ = mapping;
}

const std::map<std::string, SafetensorsFile::Entry>& SafetensorsFile::entries() const {
  return mapping_->entries;
}

bool SafetensorsFile::contains(const std::string& name) const {
  return mapping_->entries.contains(name);
}

void SafetensorsFile::release(const std::string& name) const {
  const Entry& entry = mapping_->find(name);
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(mapping_->data + entry.begin) / page * page,
             end = reinterpret_cast<std::uintptr_t>(mapping_->data + entry.end);
  // The pages at the ends hold parts of neighbours, which come back from the file like the rest.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& entry = mapping_->find(name);
  const std::optional<at::ScalarType> dtype = scalar_type_of(entry.dtype);
  if (!dtype)
    fail(ErrorCode::kData, "{}: tensor {}: dtype {} cannot be read", mapping_->path, name, entry.dtype);
  const std::byte* data = mapping_->data + entry.begin;
  const at::TensorOptions options = at::TensorOptions().dtype(*dtype);
  if (entry.begin == entry.end || reinterpret_cast<std::uintptr_t>(data) % at::elementSize(*dtype) != 0) {
    // The format does not promise alignment, processors and kernels ask for it.
    const at::Tensor copy = at::empty(entry.shape, options);
    if (entry.begin != entry.end) std::memcpy(copy.data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  // from_blob takes a mutable pointer; the mapping itself is read-only.
  return at::from_blob(
      const_cast<std::byte*>(data), entry.shape, [keep = mapping_](void*) {}, options);
}

}  // namespace ferro
