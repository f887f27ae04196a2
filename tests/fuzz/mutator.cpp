#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/error.h"

namespace ferro::testing {
namespace {

/// A place in the text, its end included.
std::size_t place(const std::string& text, KeyedRandom& random) {
  return random.below(text.size() + 1);
}

/// A stretch that is short more often than long.
std::size_t stretch(const std::string& text, std::size_t begin, KeyedRandom& random) {
  const std::size_t longest =
      random.below(4) == 0 ? text.size() - begin : std::min<std::size_t>(16, text.size() - begin);
  return longest == 0 ? 0 : 1 + random.below(longest);
}

const std::string& any_of(std::span<const std::string> list, KeyedRandom& random) {
  return list[random.below(list.size())];
}

std::string unescape(std::string_view quoted, std::size_t line) {
  std::string word;
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] != '\\') {
      word += quoted[i];
      continue;
    }
    const std::string_view rest = quoted.substr(i + 1);
    if (rest.starts_with('\\') || rest.starts_with('"')) {
      word += rest[0];
      i += 1;
    } else if (rest.size() >= 3 && rest[0] == 'x' &&
               std::isxdigit(static_cast<unsigned char>(rest[1])) != 0 &&
               std::isxdigit(static_cast<unsigned char>(rest[2])) != 0) {
      word += static_cast<char>(std::stoi(std::string(rest.substr(1, 2)), nullptr, 16));
      i += 3;
    } else {
      fail(ErrorCode::kData, "dictionary line {}: an escape other than \\\\, \\\" and \\xAB", line);
    }
  }
  return word;
}

}  // namespace

std::vector<std::string> read_dictionary(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t line = 1; !text.empty(); ++line) {
    std::string_view row = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(row.size() + 1, text.size()));
    while (row.ends_with(' ') || row.ends_with('\r')) row.remove_suffix(1);
    if (row.empty() || row.starts_with('#')) continue;
    const std::size_t quote = row.find('"');
    if (quote == std::string_view::npos || quote + 1 >= row.size() || !row.ends_with('"'))
      fail(ErrorCode::kData, "dictionary line {}: not a word in quotes", line);
    words.push_back(unescape(row.substr(quote + 1, row.size() - quote - 2), line));
  }
  return words;
}

Mutator::Mutator(std::span<const std::string> corpus, std::span<const std::string> words,
                 std::size_t max_bytes)
    : corpus_(corpus), words_(words), max_bytes_(max_bytes) {
  FERRO_CHECK(!corpus.empty(), "a corpus of {} inputs", corpus.size());
}

std::string Mutator::input(std::uint64_t seed, std::uint64_t number) const {
  KeyedRandom random(seed, RandomPurpose::kTest, {number});
  std::string text = any_of(corpus_, random);
  for (std::uint64_t changes = 1 + random.below(8); changes > 0; --changes) change(text, random);
  if (text.size() > max_bytes_) text.resize(max_bytes_);
  return text;
}

void Mutator::change(std::string& text, KeyedRandom& random) const {
  switch (random.below(8)) {
    case 0:
    case 1:
      return change_bytes(text, random);
    case 2:
    case 3:
      return insert_something(text, random);
    case 4: {  // Truncate, or cut a part out.
      const std::size_t begin = place(text, random);
      text.erase(begin, random.below(2) == 0 ? std::string::npos : stretch(text, begin, random));
      return;
    }
    case 5: {  // The same part many times: nesting, long runs.
      const std::size_t begin = place(text, random);
      const std::string part = text.substr(begin, stretch(text, begin, random));
      std::string repeated;
      for (std::uint64_t times = 1 + random.below(random.below(8) == 0 ? 4096 : 16);
           times > 0 && repeated.size() < max_bytes_; --times) {
        repeated += part;
      }
      text.insert(begin, repeated);
      return;
    }
    case 6:
      return change_number(text, random);
    default:
      return splice(text, random);
  }
}

void Mutator::change_bytes(std::string& text, KeyedRandom& random) const {
  if (text.empty()) return;
  for (std::uint64_t count = 1 + random.below(4); count > 0; --count) {
    char& byte = text[random.below(text.size())];
    switch (random.below(3)) {
      case 0:
        byte = static_cast<char>(byte ^ (1 << random.below(8)));
        break;
      case 1:
        byte = static_cast<char>(random.below(256));
        break;
      default: {
        constexpr std::string_view kTelling("\0\x01\x7F\x80\xFF\"\\{}[]:,-+.eE \n\t<|>", 25);
        byte = kTelling[random.below(kTelling.size())];
      }
    }
  }
}

void Mutator::insert_something(std::string& text, KeyedRandom& random) const {
  const std::size_t at = place(text, random);
  if (!words_.empty() && random.below(4) != 0) {
    const std::string& word = any_of(words_, random);
    if (random.below(2) == 0) text.erase(at, word.size());
    text.insert(at, word);
    return;
  }
  std::string bytes(1 + random.below(8), '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.below(256));
  text.insert(at, bytes);
}

void Mutator::change_number(std::string& text, KeyedRandom& random) const {
  constexpr std::array<const char*, 14> kNumbers{"0",
                                                 "1",
                                                 "-1",
                                                 "2",
                                                 "255",
                                                 "65536",
                                                 "2147483648",
                                                 "4294967296",
                                                 "9223372036854775807",
                                                 "18446744073709551615",
                                                 "1e308",
                                                 "-0.0",
                                                 "1e-400",
                                                 "0.5"};
  const std::size_t from = place(text, random);
  const std::size_t digit = text.find_first_of("0123456789", from);
  if (digit != std::string::npos) {
    const std::size_t end = std::min(text.find_first_not_of("0123456789.eE+-", digit), text.size());
    text.replace(digit, end - digit, kNumbers[random.below(kNumbers.size())]);
    return;
  }
  // No digits: a 4-byte number, in either byte order.
  if (text.size() < 4) return;
  constexpr std::array<std::uint32_t, 8> kValues{0,      1,          0x7F,       0xFF,
                                                 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
  const std::uint32_t value = kValues[random.below(kValues.size())];
  const std::size_t at = random.below(text.size() - 3);
  const bool big = random.below(2) == 0;
  for (std::size_t i = 0; i < 4; ++i) text[at + i] = static_cast<char>(value >> (8 * (big ? 3 - i : i)));
}

void Mutator::splice(std::string& text, KeyedRandom& random) const {
  const std::string& other = any_of(corpus_, random);
  const std::size_t begin = place(other, random), at = place(text, random);
  const std::string part = other.substr(begin, stretch(other, begin, random));
  if (random.below(2) == 0) text.erase(at, part.size());
  text.insert(at, part);
}

}  // namespace ferro::testing
