#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ferro {

/// The token in `file`: its content without blanks around it. Empty when `file` is. Error{kIo}: unreadable;
/// Error{kConfig}: empty, longer than 4096 bytes, or not printable ASCII. No message holds the token.
std::string read_bearer_token(const std::filesystem::path& file);

/// Whether `header` (the value of `authorization`) carries `token`. The time taken depends on the lengths
/// alone.
bool carries_token(std::string_view header, std::string_view token);

/// The value of `authorization` that carries `token`.
std::string bearer_header(std::string_view token);

}  // namespace ferro
