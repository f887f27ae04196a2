#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ferro {

bool is_valid_utf8(std::string_view text);

/// Each maximal subpart of an ill-formed sequence becomes one U+FFFD (Unicode 15, section 3.9; as Rust's
/// from_utf8_lossy does).
std::string replace_invalid_utf8(std::string_view bytes);

/// How many bytes at the end are the beginning of a character that more bytes could complete: 0 to 3.
std::size_t incomplete_utf8_tail(std::string_view bytes);

/// Normalisation form C by Unicode 9, as the reference tokenizer has it. REQUIRES valid UTF-8.
std::string to_nfc(std::string_view text);

/// Unicode's White_Space.
bool is_unicode_space(char32_t character);
/// Letters, marks, numbers and connector punctuation.
bool is_word_character(char32_t character);

/// The character that ends at `end`, or begins at `begin`. REQUIRES valid UTF-8; nothing at the border.
std::optional<char32_t> character_before(std::string_view text, std::size_t end);
std::optional<char32_t> character_at(std::string_view text, std::size_t begin);

/// The spelling of bytes in byte-level vocabularies: printable Latin-1 bytes stand for themselves, the others
/// for U+0100 onwards. "\n" is U+010A, " " is U+0120.
std::string bytes_to_alphabet(std::string_view bytes);
/// The inverse; nothing if a character lies outside the alphabet.
std::optional<std::string> alphabet_to_bytes(std::string_view spelling);

}  // namespace ferro
