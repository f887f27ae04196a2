#include "reward/python_text.h"

#include <algorithm>

namespace ferro {
namespace {

bool is_ascii_blank(unsigned char c) {
  return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F);
}

bool is_wide_blank(unsigned a, unsigned b, unsigned c) {
  if (a == 0xE1) return b == 0x9A && c == 0x80;  // U+1680
  if (a == 0xE3) return b == 0x80 && c == 0x80;  // U+3000
  if (a != 0xE2) return false;
  if (b == 0x80)
    return (c >= 0x80 && c <= 0x8A) || c == 0xA8 || c == 0xA9 || c == 0xAF;  // U+2000..200A, 2028, 2029, 202F
  return b == 0x81 && c == 0x9F;                                             // U+205F
}

}  // namespace

std::size_t leading_blank(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (is_ascii_blank(byte(0))) return 1;
  if (text.size() >= 2 && byte(0) == 0xC2 && (byte(1) == 0x85 || byte(1) == 0xA0)) return 2;
  if (text.size() >= 3 && is_wide_blank(byte(0), byte(1), byte(2))) return 3;
  return 0;
}

std::string_view strip_left(std::string_view text) {
  while (const std::size_t length = leading_blank(text)) text.remove_prefix(length);
  return text;
}

std::string_view strip_right(std::string_view text) {
  // A blank's first byte is never a continuation byte, so looking back 1, 2 and 3 bytes cannot mistake
  // another character's tail.
  const auto trailing_blank = [&]() -> std::size_t {
    for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
      if (leading_blank(text.substr(text.size() - length)) == length) return length;
    }
    return 0;
  };
  while (const std::size_t length = trailing_blank()) text.remove_suffix(length);
  return text;
}

std::string_view strip(std::string_view text) {
  return strip_left(strip_right(text));
}

}  // namespace ferro
