#pragma once

#include <cstddef>
#include <string_view>

namespace ferro {

// The published rewards are Python: what is blank follows its `str.isspace`, which `str.strip()` and `\s`
// share (ASCII blanks, U+001C to U+001F, U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F,
// U+205F, U+3000). Text is UTF-8; bytes that are not are never blank.

/// Bytes of the blank character that `text` starts with; 0: it starts with none.
std::size_t leading_blank(std::string_view text);

/// `text` from its first character that is not blank.
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
std::string_view strip(std::string_view text);

}  // namespace ferro
