#include "model/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"

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
};
constexpr DtypeInfo kDtypes[] = {
    {"F64", 8}, {"F32", 4},  {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4},     {"I16", 2},     {"I8", 1},
    {"U8", 1},  {"BOOL", 1}, {"U64", 8}, {"U32", 4},  {"U16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"C64", 8}};

const DtypeInfo* find_dtype(const std::string& name) {
  for (const DtypeInfo& info : kDtypes)
    if (name == info.name) return &info;
  return nullptr;
}

/// Parses the header; the JSON library would keep the last of two equal keys silently.
json parse_header(std::string_view text, std::string_view path) {
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

std::uint64_t unsigned_number(const json& value, std::string_view path, const std::string& tensor,
                              const char* what) {
  if (!value.is_number_unsigned())
    fail(ErrorCode::kData, "{}: tensor {}: {} is not a count", path, tensor, what);
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    fail(ErrorCode::kData, "{}: tensor {}: {} {} is too large", path, tensor, what, number);
  return number;
}

SafetensorsEntry read_entry(const json& value, std::string_view path, const std::string& tensor) {
  if (!value.is_object()) fail(ErrorCode::kData, "{}: tensor {}: not an object", path, tensor);
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!value.contains(key)) fail(ErrorCode::kData, "{}: tensor {}: {} is missing", path, tensor, key);
  const json& dtype = value.at("dtype");
  const DtypeInfo* info = dtype.is_string() ? find_dtype(dtype.get<std::string>()) : nullptr;
  if (info == nullptr) fail(ErrorCode::kData, "{}: tensor {}: unknown dtype {}", path, tensor, dtype.dump());

  SafetensorsEntry entry;
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
void check_coverage(const std::map<std::string, SafetensorsEntry>& entries, std::uint64_t data_bytes,
                    std::string_view path) {
  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> in_order;
  for (const auto& [name, entry] : entries) in_order.emplace_back(&name, &entry);
  std::sort(in_order.begin(), in_order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  // Overlaps first: a tensor that lies in another's place leaves a gap in its own.
  for (std::size_t i = 1; i < in_order.size(); ++i) {
    const auto& [before, before_entry] = in_order[i - 1];
    const auto& [name, entry] = in_order[i];
    if (entry->begin < before_entry->end)
      fail(ErrorCode::kData,
           "{}: tensor {} begins at byte {} of the data: it overlaps {}, which ends at byte {}", path, *name,
           entry->begin, *before, before_entry->end);
  }
  std::uint64_t covered = 0;
  for (const auto& [name, entry] : in_order) {
    if (entry->begin != covered)
      fail(ErrorCode::kData, "{}: tensor {} begins at byte {} of the data: there is a gap after byte {}",
           path, *name, entry->begin, covered);
    covered = entry->end;
    if (covered > data_bytes)
      fail(ErrorCode::kData, "{}: tensor {} ends at byte {} of the data, but the file has {}: truncated",
           path, *name, covered, data_bytes);
  }
  if (covered != data_bytes)
    fail(ErrorCode::kData, "{}: {} bytes follow the last tensor", path, data_bytes - covered);
}

void check_metadata(const json& value, std::string_view path) {
  const auto is_text = [](const json& item) { return item.is_string(); };
  if (!value.is_object() || !std::all_of(value.begin(), value.end(), is_text))
    fail(ErrorCode::kData, "{}: __metadata__ is not a map of strings", path);
}

}  // namespace

SafetensorsHeader read_safetensors_header(std::span<const std::byte> bytes, std::string_view file) {
  if (bytes.size() < 8)
    fail(ErrorCode::kData, "{}: {} bytes are too few for a safetensors file", file, bytes.size());
  std::uint64_t length = 0;
  for (std::size_t i = 8; i > 0; --i) length = length << 8 | static_cast<std::uint64_t>(bytes[i - 1]);
  if (length > kMaxHeaderBytes || length > bytes.size() - 8)
    fail(ErrorCode::kData,
         "{}: header of {} bytes in a file of {} (at most {}): truncated, or not safetensors", file, length,
         bytes.size(), kMaxHeaderBytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  if (!text.starts_with('{')) fail(ErrorCode::kData, "{}: header does not begin with an object", file);
  const json parsed = parse_header(text, file);
  SafetensorsHeader header;
  header.data_begin = 8 + length;
  for (const auto& [name, value] : parsed.items()) {
    if (name == "__metadata__") {
      check_metadata(value, file);
    } else {
      header.entries.emplace(name, read_entry(value, file, name));
    }
  }
  check_coverage(header.entries, bytes.size() - header.data_begin, file);
  return header;
}

}  // namespace ferro
