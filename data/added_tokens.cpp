#include "data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "data/utf8.h"

namespace ferro {
namespace {

std::size_t utf8_length(char32_t character) {
  return character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
}

bool beside_word(std::string_view text, std::size_t begin, std::size_t end) {
  const auto before = character_before(text, begin), after = character_at(text, end);
  return (before.has_value() && is_word_character(*before)) ||
         (after.has_value() && is_word_character(*after));
}

std::size_t spaces_left_of(std::string_view text, std::size_t begin, std::size_t limit) {
  while (begin > limit) {
    const auto before = character_before(text, begin);
    if (!before.has_value() || !is_unicode_space(*before)) break;
    begin -= utf8_length(*before);
  }
  return begin;
}

std::size_t spaces_right_of(std::string_view text, std::size_t end) {
  for (auto next = character_at(text, end); next.has_value() && is_unicode_space(*next);
       next = character_at(text, end)) {
    end += utf8_length(*next);
  }
  return end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    by_first_byte_[static_cast<std::uint8_t>(tokens_[i].content[0])].push_back(i);
  }
}

const AddedToken* AddedTokenMatcher::match_at(std::string_view text, std::size_t at) const {
  for (const std::size_t index : by_first_byte_[static_cast<std::uint8_t>(text[at])]) {
    if (text.substr(at).starts_with(tokens_[index].content)) return &tokens_[index];
  }
  return nullptr;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<TextPart>& parts) const {
  std::size_t emitted = 0;
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = match_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word && beside_word(text, begin, end)) continue;
    if (token->lstrip) begin = spaces_left_of(text, begin, emitted);
    if (token->rstrip) end = spaces_right_of(text, end);
    if (emitted < begin) parts.push_back({text.substr(emitted, begin - emitted), -1});
    parts.push_back({text.substr(begin, end - begin), token->id});
    emitted = at = end;
  }
  if (emitted < text.size()) parts.push_back({text.substr(emitted), -1});
}

}  // namespace ferro
