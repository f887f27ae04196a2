#include "data/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>

#include "core/error.h"

namespace ferro {

const char* const kQwen2SplitPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kGpt2SplitPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// PCRE2's \s holds U+180E, Oniguruma's does not: write the class out.
constexpr const char* kSpaces =
    R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Debian 12's PCRE2 knows Unicode 14, the reference tokenizer Unicode 16: letters and numbers in between.
constexpr const char* kNewLetters =
    R"(\x{1C89}-\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3})"
    R"(\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}-\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C}\x{18CFF})"
    R"(\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB})"
    R"(\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr const char* kNewNumbers =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59})"
    R"(\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3})"
    R"(\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

/// An escape that the two libraries read differently.
struct Escape {
  std::string_view text;
  std::string members;  ///< Of a class that means the same here.
};

const Escape* escape_at(std::string_view pattern) {
  static const std::vector<Escape> kEscapes = {
      {R"(\s)", kSpaces},
      {R"(\p{L})", std::string(R"(\p{L})") + kNewLetters},
      {R"(\p{N})", std::string(R"(\p{N})") + kNewNumbers},
  };
  for (const Escape& escape : kEscapes) {
    if (pattern.starts_with(escape.text)) return &escape;
  }
  return nullptr;
}

std::string to_pcre2(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size();) {
    const std::string_view rest = pattern.substr(i);
    std::size_t taken = 1;
    if (const Escape* escape = escape_at(rest)) {
      out += in_class ? escape->members : fmt::format("[{}]", escape->members);
      taken = escape->text.size();
    } else if (rest.starts_with(R"(\S)") && !in_class) {
      out += fmt::format("[^{}]", kSpaces);
      taken = 2;
    } else {
      if (rest[0] == '\\') taken = std::min<std::size_t>(2, rest.size());
      if (rest[0] == '[') in_class = true;
      if (rest[0] == ']') in_class = false;
      out += rest.substr(0, taken);
    }
    i += taken;
  }
  return out;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

/// The patterns of real tokenizers step over a text a few times; one that backtracks without end is stopped.
std::unique_ptr<pcre2_match_context, MatchContextDeleter> limits_for(std::size_t text_bytes) {
  constexpr std::uint64_t kSteps = 10'000, kStepsPerByte = 32;
  constexpr std::uint32_t kHeapKib = 256 * 1024;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> limits(pcre2_match_context_create(nullptr));
  const std::uint64_t steps = std::min<std::uint64_t>(kSteps + kStepsPerByte * text_bytes, UINT32_MAX);
  pcre2_set_match_limit(limits.get(), static_cast<std::uint32_t>(steps));
  pcre2_set_heap_limit(limits.get(), kHeapKib);
  return limits;
}

std::size_t next_character(std::string_view text, std::size_t at) {
  do ++at;
  while (at < text.size() && (static_cast<std::uint8_t>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

struct PreTokenizer::Regex {
  pcre2_code* code = nullptr;

  explicit Regex(const std::string& pattern) {
    const std::string translated = to_pcre2(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (code == nullptr) {
      fail(ErrorCode::kData, "the split pattern \"{}\" does not compile: {} (at {})", pattern,
           pcre2_message(error), offset);
    }
    // Without JIT (absent on some processors) the interpreter gives the same matches.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() { pcre2_code_free(code); }
};

PreTokenizer::PreTokenizer(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) regexes_.push_back(std::make_unique<Regex>(pattern));
}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  if (!text.empty()) split_from(0, text, pieces);
}

void PreTokenizer::split_from(std::size_t pattern, std::string_view text,
                              std::vector<std::string_view>& pieces) const {
  if (pattern == regexes_.size()) {
    pieces.push_back(text);
    return;
  }
  const auto emit = [&](std::size_t begin, std::size_t end) {
    if (begin == end) return;
    const std::string_view piece = text.substr(begin, end - begin);
    if (pattern + 1 == regexes_.size()) {
      pieces.push_back(piece);
    } else {
      split_from(pattern + 1, piece, pieces);
    }
  };
  const Regex& regex = *regexes_[pattern];
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> match(pcre2_match_data_create(1, nullptr));
  const auto limits = limits_for(text.size());
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
  std::size_t at = 0, emitted = 0;
  while (at < text.size()) {
    const int code = pcre2_match(regex.code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                 PCRE2_NO_UTF_CHECK, match.get(), limits.get());
    if (code == PCRE2_ERROR_NOMATCH) break;
    if (code < 0)
      fail(ErrorCode::kData, "the split pattern failed at byte {} of a text: {}", at, pcre2_message(code));
    emit(emitted, span[0]);
    emit(span[0], span[1]);
    emitted = span[1];
    at = span[1] > span[0] ? span[1] : next_character(text, span[1]);
  }
  emit(emitted, text.size());
}

std::string quote_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool punctuation =
        static_cast<std::uint8_t>(c) < 0x80 && std::isalnum(static_cast<unsigned char>(c)) == 0;
    if (punctuation) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace ferro
