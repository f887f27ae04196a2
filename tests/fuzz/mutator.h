#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/keyed_random.h"

namespace ferro::testing {

/// Words of a dictionary file in libFuzzer's form: one `"text"` or `name="text"` a line, with the escapes
/// \\, \" and \xAB; `#` begins a comment. Error{kData} with the line for anything else.
std::vector<std::string> read_dictionary(std::string_view text);

/// Makes new inputs out of old ones: flipped, inserted, removed and repeated bytes, words of the dictionary,
/// other numbers, parts of a second input.
class Mutator {
 public:
  /// `corpus` must not be empty and must outlive the mutator, as must `words`.
  Mutator(std::span<const std::string> corpus, std::span<const std::string> words, std::size_t max_bytes);

  /// The input with this number: a pure function of seed, number and what the constructor was given. At most
  /// max_bytes long.
  std::string input(std::uint64_t seed, std::uint64_t number) const;

 private:
  void change(std::string& text, KeyedRandom& random) const;
  void change_bytes(std::string& text, KeyedRandom& random) const;
  void insert_something(std::string& text, KeyedRandom& random) const;
  void change_number(std::string& text, KeyedRandom& random) const;
  void splice(std::string& text, KeyedRandom& random) const;

  std::span<const std::string> corpus_, words_;
  std::size_t max_bytes_;
};

}  // namespace ferro::testing
