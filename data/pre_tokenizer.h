#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// Qwen2's split pattern, and GPT-2's.
extern const char* const kQwen2SplitPattern;
extern const char* const kGpt2SplitPattern;

/// A literal text as a pattern.
std::string quote_pattern(std::string_view text);

/// Cuts text into the pieces that BPE merges within: each match of a pattern is a piece, and so is what lies
/// between matches; several patterns apply one after the other. Patterns are Oniguruma's as tokenizer.json
/// has them, compiled by PCRE2 with Unicode properties. Immutable, thread-safe.
class PreTokenizer {
 public:
  /// Error{kData} naming a pattern that does not compile, with PCRE2's message.
  explicit PreTokenizer(const std::vector<std::string>& patterns);
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  /// Appends views into `text`, whose concatenation is `text`. REQUIRES valid UTF-8. Error{kData} when a
  /// pattern backtracks out of proportion to the text.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Regex;
  void split_from(std::size_t pattern, std::string_view text, std::vector<std::string_view>& pieces) const;
  std::vector<std::unique_ptr<Regex>> regexes_;
};

}  // namespace ferro
