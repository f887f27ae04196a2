#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// A token that is matched in the text before anything else.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;             ///< Not beside a word character.
  bool lstrip = false, rstrip = false;  ///< Takes the white space on that side with it.
  bool normalized = false;              ///< Matched after normalisation, not before.
  bool special = false;                 ///< Left out by skip_special_tokens.
};

/// A stretch of text, or one added token.
struct TextPart {
  std::string_view text;
  std::int32_t id = -1;  ///< -1: text.
};

/// Finds added tokens, leftmost first, the longest of those that start together. Immutable, thread-safe.
class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);
  /// Appends the parts of `text` in order, without empty ones. REQUIRES valid UTF-8.
  void split(std::string_view text, std::vector<TextPart>& parts) const;

 private:
  const AddedToken* match_at(std::string_view text, std::size_t at) const;
  std::vector<AddedToken> tokens_;  ///< Longest first.
  std::array<std::vector<std::size_t>, 256> by_first_byte_;
};

}  // namespace ferro
