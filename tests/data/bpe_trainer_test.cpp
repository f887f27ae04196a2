#include "data/bpe_trainer.h"

#include <set>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "tests/data/text_fixtures.h"

namespace ferro {
namespace {

using testing::TemporaryFolder;
using Ids = std::vector<std::int32_t>;

std::string trained(const std::vector<std::string>& texts, std::int64_t vocab_size) {
  const TemporaryFolder folder;
  train_tokenizer(texts, vocab_size, folder.path() / "tokenizer.json");
  return read_file(folder.path() / "tokenizer.json");
}

Tokenizer loaded(const std::string& json) {
  const TemporaryFolder folder;
  return Tokenizer::load(folder.write("tokenizer.json", json));
}

TEST_CASE("merges follow pair frequency, ties the smaller bytes") {
  // "ab" x 3: (a,b). Then "abc" and "abd" once each plus "xy" twice: (x,y) is the only pair left that occurs
  // twice.
  const auto root = nlohmann::json::parse(trained({"ab\n1abc\n1abd\n1xy\n1xy"}, 600));
  CHECK(root["model"]["merges"] == nlohmann::json::array({"a b", "x y"}));
  // Both pairs occur twice: (a,b) before (x,y).
  const auto tied = nlohmann::json::parse(trained({"xy1ab1xy1ab"}, 600));
  CHECK(tied["model"]["merges"] == nlohmann::json::array({"a b", "x y"}));
}

TEST_CASE("a vocabulary that stops early is followed directly by the special tokens") {
  const Tokenizer tokenizer = loaded(trained({"xy1xy"}, 600));
  CHECK(tokenizer.vocab_size() == 256 + 1 + 14);
  CHECK(tokenizer.id_of("<|endoftext|>") == 257);
  CHECK(tokenizer.id_of("<|im_end|>") == 259);
  CHECK(tokenizer.id_of("<|video_pad|>") == 270);
  CHECK(tokenizer.is_special(270));
  CHECK(tokenizer.encode("xy") == Ids{256});
}

TEST_CASE("the vocabulary has the size asked for when the texts allow it") {
  for (const std::int64_t size : {270, 300, 350}) {
    CHECK(testing::small_tokenizer(size).vocab_size() == size);
  }
  CHECK_THROWS_AS(trained({"ab"}, 269), Error);
}

TEST_CASE("training twice gives the same bytes") {
  const auto texts = testing::reasoning_texts(10, ReasoningStyle::kFull);
  CHECK(trained(texts, 512) == trained(texts, 512));
}

TEST_CASE("any text survives encoding and decoding with a learnt vocabulary") {
  const Tokenizer tokenizer = testing::small_tokenizer();
  for (const std::string text :
       {"", "hello", "jaw dropped (AU26)", "\xC3\xA9t\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80",
        "<|im_start|>user\n\n  x\t<|im_end|>"}) {
    CHECK(tokenizer.decode(tokenizer.encode(text), false) == text);
  }
}

TEST_CASE("special tokens in the texts teach no merges") {
  const auto root = nlohmann::json::parse(trained({"<|im_start|><|im_start|><|im_start|>"}, 600));
  CHECK(root["model"]["merges"].empty());
}

TEST_CASE("compact answers take few tokens of a small vocabulary") {
  const auto texts = testing::reasoning_texts(20, ReasoningStyle::kCompact);
  const Tokenizer tokenizer = loaded(trained(texts, 512));
  std::size_t longest = 0, total = 0;
  for (const std::string& text : texts) {
    longest = std::max(longest, tokenizer.encode(text).size());
    total += tokenizer.encode(text).size();
  }
  CHECK(longest <= 40);
  CHECK(total <= 25 * texts.size());
}

TEST_CASE("full answers take few tokens of a vocabulary of 1024") {
  const auto texts = testing::reasoning_texts(20, ReasoningStyle::kFull);
  const Tokenizer tokenizer = loaded(trained(texts, 1024));
  std::size_t total = 0;
  for (const std::string& text : texts) total += tokenizer.encode(text).size();
  CHECK(total <= 50 * texts.size());
}

TEST_CASE("bytes that are not UTF-8 are learnt as U+FFFD and do no harm") {
  const Tokenizer tokenizer = loaded(trained({"\xFF\xFE \xFF\xFE", std::string(3, '\0')}, 400));
  CHECK(tokenizer.decode(tokenizer.encode("\xFF"), false) == "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace ferro
