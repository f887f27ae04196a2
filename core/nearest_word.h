#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ferro {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string
/// alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate with the fewest edits to `word`, if that is near enough to be meant: at most a third of the
/// longer word, at least one edit allowed. Of equals the first.
std::optional<std::string> nearest_word(std::string_view word, std::span<const std::string> candidates);

}  // namespace ferro
