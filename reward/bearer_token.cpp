#include "reward/bearer_token.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/atomic_file.h"
#include "core/error.h"
#include "reward/python_text.h"

namespace ferro {
namespace {

constexpr std::string_view kScheme = "Bearer ";

}  // namespace

std::string read_bearer_token(const std::filesystem::path& file) {
  if (file.empty()) return {};
  constexpr std::uint64_t kLongestFile = 1 << 16;
  constexpr std::size_t kLongestToken = 4096;
  const std::string content = read_file(file, kLongestFile);
  const std::string_view token = strip(content);
  const bool printable = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; });
  if (token.empty() || token.size() > kLongestToken || !printable)
    fail(ErrorCode::kConfig, "{}: a bearer token is 1 to {} printable ASCII characters without blanks",
         file.string(), kLongestToken);
  return std::string(token);
}

bool carries_token(std::string_view header, std::string_view token) {
  if (header.size() != kScheme.size() + token.size() || !header.starts_with(kScheme)) return false;
  header.remove_prefix(kScheme.size());
  unsigned difference = 0;
  for (std::size_t i = 0; i < token.size(); ++i)
    difference |= static_cast<unsigned char>(header[i]) ^ static_cast<unsigned char>(token[i]);
  return difference == 0;
}

std::string bearer_header(std::string_view token) {
  return std::string(kScheme) + std::string(token);
}

}  // namespace ferro
