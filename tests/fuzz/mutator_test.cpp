#include "tests/fuzz/mutator.h"

#include <set>

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"

namespace ferro {
namespace {

using testing::Mutator;
using testing::read_dictionary;

TEST_CASE("a dictionary's words are read with their escapes, and anything else is refused by line") {
  CHECK(read_dictionary("# words\n\"a\"\nkey=\"b\\\"\\\\\\x00\\xFF\"  \r\n\n") ==
        std::vector<std::string>{"a", std::string("b\"\\\0\xFF", 5)});
  testing::expect_error(ErrorCode::kData, [] { read_dictionary("\"a\"\nword\n"); }, {"line 2"});
  testing::expect_error(ErrorCode::kData, [] { read_dictionary("\"a\\q\"\n"); }, {"line 1", "escape"});
}

TEST_CASE("changed inputs depend on seed and number alone, differ, and keep within the length limit") {
  const std::vector<std::string> corpus{"", "{\"a\": 12}", std::string(100, 'x')}, words{"<word>"};
  const Mutator mutator(corpus, words, 128), again(corpus, words, 128);
  std::set<std::string> seen;
  std::size_t with_word = 0;
  for (std::uint64_t number = 0; number < 2000; ++number) {
    const std::string input = mutator.input(7, number);
    CHECK(input == again.input(7, number));
    CHECK(input.size() <= 128);
    with_word += input.find("<word>") != std::string::npos ? 1 : 0;
    seen.insert(input);
  }
  CHECK(seen.size() > 1000);
  CHECK(with_word > 200);
  CHECK(mutator.input(7, 3) != mutator.input(8, 3));
}

}  // namespace
}  // namespace ferro
