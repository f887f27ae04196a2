#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

struct SafetensorsEntry {
  std::string dtype;  ///< "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< Bytes in the data section.
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::uint64_t data_begin = 0;  ///< Byte of the file where the data section begins.
};

/// Reads and checks the header at the beginning of a whole file's bytes, without LibTorch: at most 100 MB,
/// offsets contiguous and within the file, no overlap, no duplicate names, sizes equal to shape times dtype.
/// Error{kData} naming `file` and the tensor.
SafetensorsHeader read_safetensors_header(std::span<const std::byte> bytes, std::string_view file);

}  // namespace ferro
