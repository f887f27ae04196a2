#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// The candidate with the fewest edits (insert, delete, replace, swap neighbours) to `word`, if that is near
/// enough to be meant: at most a third of the longer word, at least one edit allowed.
std::optional<std::string> nearest_word(std::string_view word, std::span<const std::string> candidates);

}  // namespace ferro
