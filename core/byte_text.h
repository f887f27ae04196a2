#pragma once

#include <cstdint>
#include <string>

namespace ferro {

/// Bytes for people, in powers of 1024: "512 B", "1.5 GiB".
std::string byte_text(std::uint64_t bytes);

}  // namespace ferro
