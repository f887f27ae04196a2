#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/safetensors.h"

// Format: https://github.com/huggingface/safetensors#format: 8 bytes header length (little-endian), JSON
// header, data.

namespace ferro {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxDepth = 3;  // The header, a tensor, its lists.

struct DtypeInfo {
  const char* name;
  std::uint64_t size;
  std::optional<at::ScalarType> scalar_type;  ///< None: sizes are checked, but tensor() refuses it.
};
const DtypeInfo kDtypes[] = {
    {"F64", 8, at::kDouble},    {"F32", 4, at::kFloat},       {"F16", 2, at::kHalf},
    {"BF16", 2, at::kBFloat16}, {"I64", 8, at::kLong},        {"I32", 4, at::kInt},
    {"I16", 2, at::kShort},     {"I8", 1, at::kChar},         {"U8", 1, at::kByte},
    {"BOOL", 1, at::kBool},     {"U64", 8, std::nullopt},     {"U32", 4, std::nullopt},
    {"U16", 2, std::nullopt},   {"F8_E4M3", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt},
    {"C64", 8, std::nullopt}};

const DtypeInfo* find_dtype(const std::string& name) {
  for (const DtypeInfo& info : kDtypes)
    if (name == info.name) return &info;
  return nullptr;
}

/// Parses the header; the JSON library would keep the last of two equal keys silently.
json parse_header(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) fail(ErrorCode::kData, "{}: header is nested too deeply", path);
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      fail(ErrorCode::kData, "{}: duplicate name \"{}\" in the header", path, parsed.get<std::string>());
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: header is not JSON: {}", path, error.what());
  }
}

std::uint64_t unsigned_number(const json& value, const std::string& path, const std::string& tensor,
                              const char* what) {
  if (!value.is_number_unsigned())
    fail(ErrorCode::kData, "{}: tensor {}: {} is not a count", path, tensor, what);
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(ErrorCode::kData, "{}: tensor {}: {} {} is too large", path, tensor, what, number);
  return number;
}

SafetensorsFile::Entry read_entry(const json& value, const std::string& path, const std::string& tensor) {
  if (!value.is_object()) fail(ErrorCode::kData, "{}: tensor {}: not an object", path, tensor);
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!value.contains(key)) fail(ErrorCode::kData, "{}: tensor {}: {} is missing", path, tensor, key);
  const json& dtype = value.at("dtype");
  const DtypeInfo* info = dtype.is_string() ? find_dtype(dtype.get<std::string>()) : nullptr;
  if (info == nullptr) fail(ErrorCode::kData, "{}: tensor {}: unknown dtype {}", path, tensor, dtype.dump());

  SafetensorsFile::Entry entry;
  entry.dtype = info->name;
  const json& shape = value.at("shape");
  if (!shape.is_array()) fail(ErrorCode::kData, "{}: tensor {}: shape is not a list", path, tensor);
  std::uint64_t bytes = info->size;
  for (const json& extent : shape) {
    const std::uint64_t size = unsigned_number(extent, path, tensor, "shape");
    if (__builtin_mul_overflow(bytes, size, &bytes))
      fail(ErrorCode::kData, "{}: tensor {}: shape {} overflows", path, tensor, shape.dump());
    entry.shape.push_back(static_cast<std::int64_t>(size));
  }
  const json& offsets = value.at("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2)
    fail(ErrorCode::kData, "{}: tensor {}: data_offsets is not a pair", path, tensor);
  entry.begin = unsigned_number(offsets[0], path, tensor, "offset");
  entry.end = unsigned_number(offsets[1], path, tensor, "offset");
  if (entry.end < entry.begin || entry.end - entry.begin != bytes)
    fail(ErrorCode::kData, "{}: tensor {}: offsets [{}, {}) do not hold {} bytes of {} {}", path, tensor,
         entry.begin, entry.end, bytes, entry.dtype, shape.dump());
  return entry;
}

/// Tensors must cover the data section without gap or overlap.
void check_coverage(const std::map<std::string, SafetensorsFile::Entry>& entries, std::uint64_t data_bytes,
                    const std::string& path) {
  std::vector<std::pair<const std::string*, const SafetensorsFile::Entry*>> in_order;
  for (const auto& [name, entry] : entries) in_order.emplace_back(&name, &entry);
  std::sort(in_order.begin(), in_order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::uint64_t covered = 0;
  for (const auto& [name, entry] : in_order) {
    if (entry->begin != covered)
      fail(ErrorCode::kData, "{}: tensor {} begins at byte {} of the data: {} byte {}", path, *name,
           entry->begin,
           entry->begin < covered ? "it overlaps the one before, which ends at" : "there is a gap after",
           covered);
    covered = entry->end;
    if (covered > data_bytes)
      fail(ErrorCode::kData, "{}: tensor {} ends at byte {} of the data, but the file has {}: truncated",
           path, *name, covered, data_bytes);
  }
  if (covered != data_bytes)
    fail(ErrorCode::kData, "{}: {} bytes follow the last tensor", path, data_bytes - covered);
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
    if (size < 8) fail(ErrorCode::kData, "{}: {} bytes are too few for a safetensors file", path, size);
    if (address == MAP_FAILED) fail(ErrorCode::kIo, "{}: cannot map: {}", path, std::strerror(reason));
  }

  void read_header() {
    const auto* bytes = static_cast<const unsigned char*>(address);
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | bytes[i];
    if (length > kMaxHeaderBytes || length > size - 8)
      fail(ErrorCode::kData,
           "{}: header of {} bytes in a file of {} (at most {}): truncated, or not safetensors", path, length,
           size, kMaxHeaderBytes);
    data = static_cast<const std::byte*>(address) + 8 + length;
    if (length == 0 || bytes[8] != '{')
      fail(ErrorCode::kData, "{}: header does not begin with an object", path);
    const json header = parse_header(std::string(reinterpret_cast<const char*>(bytes) + 8, length), path);
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        check_metadata(value);
      } else {
        entries.emplace(name, read_entry(value, path, name));
      }
    }
    check_coverage(entries, size - 8 - length, path);
  }

  void check_metadata(const json& value) const {
    const auto is_text = [](const json& item) { return item.is_string(); };
    if (!value.is_object() || !std::all_of(value.begin(), value.end(), is_text))
      fail(ErrorCode::kData, "{}: __metadata__ is not a map of strings", path);
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

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = mapping_->entries.find(name);
  if (found == mapping_->entries.end()) fail(ErrorCode::kData, "{}: no tensor {}", mapping_->path, name);
  const Entry& entry = found->second;
  const DtypeInfo& dtype = *find_dtype(entry.dtype);
  if (!dtype.scalar_type)
    fail(ErrorCode::kData, "{}: tensor {}: dtype {} cannot be read", mapping_->path, name, entry.dtype);
  const std::byte* data = mapping_->data + entry.begin;
  const at::TensorOptions options = at::TensorOptions().dtype(*dtype.scalar_type);
  if (entry.begin == entry.end || reinterpret_cast<std::uintptr_t>(data) % dtype.size != 0) {
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
