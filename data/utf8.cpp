#include "data/utf8.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>

#include <simdjson.h>
#include <utf8proc.h>

#include "core/error.h"

namespace ferro {
namespace {

enum class Sequence { kValid, kInvalid, kIncomplete };

struct Step {
  std::size_t length;
  Sequence kind;
};

std::uint8_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<std::uint8_t>(text[i]);
}

struct SecondByteRange {
  std::size_t length;  ///< Of the whole sequence; 0: not a lead byte.
  std::uint8_t low, high;
};

// Table 3-7 of the Unicode standard: well-formed UTF-8 byte sequences.
SecondByteRange second_byte_range(std::uint8_t lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

Step step_at(std::string_view text, std::size_t begin) {
  const std::uint8_t lead = byte_at(text, begin);
  if (lead < 0x80) return {1, Sequence::kValid};
  const SecondByteRange range = second_byte_range(lead);
  if (range.length == 0) return {1, Sequence::kInvalid};
  for (std::size_t i = 1; i < range.length; ++i) {
    if (begin + i == text.size()) return {i, Sequence::kIncomplete};
    const std::uint8_t byte = byte_at(text, begin + i);
    const std::uint8_t low = i == 1 ? range.low : 0x80, high = i == 1 ? range.high : 0xBF;
    if (byte < low || byte > high) return {i, Sequence::kInvalid};
  }
  return {range.length, Sequence::kValid};
}

bool is_ascii(std::string_view text) {
  std::size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080ULL) != 0) return false;
  }
  for (; i < text.size(); ++i) {
    if (byte_at(text, i) >= 0x80) return false;
  }
  return true;
}

void append_character(std::string& text, char32_t character) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(character), bytes.data());
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length));
}

struct CharacterRange {
  char32_t first, last;
};

// Marks and other characters with a part in normalisation that came after Unicode 9, whose tables the
// reference tokenizer normalises with: to it they are characters like any other (compared over all code
// points).
constexpr CharacterRange kNewerMarks[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

bool is_newer_mark(char32_t character) {
  if (character < kNewerMarks[0].first) return false;
  const auto* after =
      std::upper_bound(std::begin(kNewerMarks), std::end(kNewerMarks), character,
                       [](char32_t c, const CharacterRange& range) { return c < range.first; });
  return character <= (after - 1)->last;
}

void append_nfc(std::string& out, std::string_view text) {
  if (is_ascii(text)) {
    out += text;
    return;
  }
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0)
    fail(ErrorCode::kInternal, "NFC of {} bytes failed: {}", text.size(), utf8proc_errmsg(length));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(length));
}

constexpr std::size_t kAlphabetEnd = 256 + 256;

struct Alphabet {
  std::array<char32_t, 256> character_of{};
  std::array<std::int16_t, kAlphabetEnd> byte_of{};
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet = [] {
    Alphabet table;
    table.byte_of.fill(-1);
    char32_t next = 256;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t character = itself ? static_cast<char32_t>(byte) : next++;
      table.character_of[byte] = character;
      table.byte_of[character] = static_cast<std::int16_t>(byte);
    }
    return table;
  }();
  return kAlphabet;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  return simdjson::validate_utf8(text);
}

std::string replace_invalid_utf8(std::string_view bytes) {
  if (is_valid_utf8(bytes)) return std::string(bytes);
  std::string text;
  text.reserve(bytes.size() + 16);
  for (std::size_t i = 0; i < bytes.size();) {
    const Step step = step_at(bytes, i);
    if (step.kind == Sequence::kValid) {
      text.append(bytes.substr(i, step.length));
    } else {
      text += "\xEF\xBF\xBD";
    }
    i += step.length;
  }
  return text;
}

std::size_t incomplete_utf8_tail(std::string_view bytes) {
  for (std::size_t length = std::min<std::size_t>(3, bytes.size()); length > 0; --length) {
    const Step step = step_at(bytes, bytes.size() - length);
    if (step.kind == Sequence::kIncomplete && step.length == length) return length;
  }
  return 0;
}

std::string to_nfc(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  std::string out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = step_at(text, i).length;
    if (length > 1 && is_newer_mark(*character_at(text, i))) {
      append_nfc(out, text.substr(begin, i - begin));
      out += text.substr(i, length);
      begin = i + length;
    }
    i += length;
  }
  append_nfc(out, text.substr(begin));
  return out;
}

bool is_unicode_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_word_character(char32_t character) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(character));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO) ||
         category == UTF8PROC_CATEGORY_PC;
}

std::optional<char32_t> character_at(std::string_view text, std::size_t begin) {
  if (begin >= text.size()) return std::nullopt;
  utf8proc_int32_t character = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + begin),
                   static_cast<utf8proc_ssize_t>(text.size() - begin), &character);
  return static_cast<char32_t>(character);
}

std::optional<char32_t> character_before(std::string_view text, std::size_t end) {
  if (end == 0) return std::nullopt;
  std::size_t begin = end - 1;
  while (begin > 0 && (byte_at(text, begin) & 0xC0) == 0x80) --begin;
  return character_at(text.substr(0, end), begin);
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string spelling;
  spelling.reserve(bytes.size() * 2);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    append_character(spelling, alphabet().character_of[byte_at(bytes, i)]);
  return spelling;
}

std::optional<std::string> alphabet_to_bytes(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  for (std::size_t i = 0; i < spelling.size();) {
    const Step step = step_at(spelling, i);
    if (step.kind != Sequence::kValid || step.length > 2) return std::nullopt;
    const std::size_t character = step.length == 1
                                      ? byte_at(spelling, i)
                                      : static_cast<std::size_t>((byte_at(spelling, i) & 0x1F) << 6 |
                                                                 (byte_at(spelling, i + 1) & 0x3F));
    if (character >= kAlphabetEnd || alphabet().byte_of[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet().byte_of[character]));
    i += step.length;
  }
  return bytes;
}

}  // namespace ferro
