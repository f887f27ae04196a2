#include "data/tokenizer.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/bpe_merger.h"
#include "data/pre_tokenizer.h"
#include "data/utf8.h"
#include "tests/data/text_fixtures.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::TemporaryFolder;
using Ids = std::vector<std::int32_t>;

/// Bytes at their own id, then "ab" 256, "bc" 257, and an added token "<x>" 258.
json minimal() {
  json vocab;
  for (int byte = 0; byte < 256; ++byte)
    vocab[bytes_to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  vocab["ab"] = 256;
  vocab["bc"] = 257;
  return {{"added_tokens", json::array({{{"id", 258}, {"content", "<x>"}, {"special", true}}})},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array({"b c", "a b"})}}}};
}

Tokenizer load(const std::string& text) {
  const TemporaryFolder folder;
  return Tokenizer::load(folder.write("tokenizer.json", text));
}
Tokenizer load(const json& root) {
  return load(root.dump());
}

std::string error_of(const std::string& text) {
  try {
    load(text);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kData);
    return error.what();
  }
  return "no error";
}

TEST_CASE("merges apply by rank, not from left to right") {
  const Tokenizer tokenizer = load(minimal());
  CHECK(tokenizer.encode("abc") == Ids{'a', 257});
  CHECK(tokenizer.encode("ab") == Ids{256});
  json pairs = minimal();
  pairs["model"]["merges"] = json::array({json::array({"b", "c"}), json::array({"a", "b"})});
  CHECK(load(pairs).encode("abc") == Ids{'a', 257});
}

TEST_CASE("ignore_merges takes a piece that is a token whole") {
  json root = minimal();
  root["model"]["vocab"]["abc"] = 259;
  CHECK(load(root).encode("abc") == Ids{'a', 257});
  root["model"]["ignore_merges"] = true;
  CHECK(load(root).encode("abc") == Ids{259});
}

TEST_CASE("short and long pieces merge alike") {
  // The long path starts at 65 symbols; the same merges by the definition, one at a time.
  BpeMerger merger(40);
  for (int left = 0; left < 6; ++left) {
    for (int right = 0; right < 6; ++right) {
      if ((left * 7 + right * 5) % 3 != 0) merger.add(left, right, (left * 3 + right) % 9);
    }
  }
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    KeyedRandom random(11, RandomPurpose::kTest, {seed});
    Ids piece(30 + random.below(35));
    for (auto& id : piece) id = static_cast<std::int32_t>(random.below(6));
    // Id 40 takes part in no merge, so a piece with enough of it behind takes the long path and ends the
    // same.
    Ids padded = piece;
    padded.insert(padded.end(), 64, 40);
    merger.merge(piece);
    merger.merge(padded);
    piece.insert(piece.end(), 64, 40);
    CHECK(piece == padded);
  }
}

TEST_CASE("a megabyte without a place to split is encoded quickly") {
  const Tokenizer tokenizer = load(minimal());
  std::string text(1 << 20, 'a');
  for (std::size_t i = 1; i < text.size(); i += 2) text[i] = 'b';
  CHECK(tokenizer.encode(text) == Ids(text.size() / 2, 256));
  CHECK(tokenizer.encode(std::string(1 << 20, ' ')).size() == 1 << 20);
}

TEST_CASE("added tokens are matched first, longest first, and by their flags") {
  json root = minimal();
  root["added_tokens"].push_back(
      {{"id", 259}, {"content", "<x><y>"}, {"special", false}, {"normalized", false}});
  root["added_tokens"].push_back(
      {{"id", 260}, {"content", "[m]"}, {"lstrip", true}, {"rstrip", true}, {"special", true}});
  root["added_tokens"].push_back({{"id", 261}, {"content", "ab"}, {"single_word", true}, {"special", true}});
  const Tokenizer tokenizer = load(root);
  CHECK(tokenizer.encode("<x><y><x>") == Ids{259, 258});
  CHECK(tokenizer.encode("a \n[m]\xC2\xA0 b") == Ids{'a', 260, 'b'});
  CHECK(tokenizer.encode("ab.") == Ids{261, '.'});
  CHECK(tokenizer.encode("abz") == Ids{256, 'z'});
  CHECK(tokenizer.decode(Ids{258, 'a', 259}, true) == "a<x><y>");
}

TEST_CASE("normalised added tokens match the composed text") {
  json root = minimal();
  root["added_tokens"].push_back({{"id", 259}, {"content", "\xC3\xA9"}, {"normalized", true}});
  CHECK(load(root).encode("e\xCC\x81") == Ids{259});
  root["added_tokens"][1]["normalized"] = false;
  CHECK(load(root).encode("e\xCC\x81") == Ids{0xC3, 0xA9});
}

TEST_CASE("text that is not UTF-8 is repaired, and NUL is a character") {
  const Tokenizer tokenizer = load(minimal());
  CHECK(tokenizer.encode("\xFFz") == Ids{0xEF, 0xBF, 0xBD, 'z'});
  CHECK(tokenizer.encode(std::string_view("\0z", 2)) == Ids{0, 'z'});
}

TEST_CASE("ids without a token are skipped and have no bytes") {
  const Tokenizer tokenizer = load(minimal());
  CHECK(tokenizer.vocab_size() == 259);
  CHECK(tokenizer.decode(Ids{-1, 'a', 259, 1 << 30}, false) == "a");
  CHECK(tokenizer.token_bytes(256) == "ab");
  CHECK(tokenizer.token_bytes(-5).empty());
  CHECK_FALSE(tokenizer.is_special(1 << 30));
  CHECK_FALSE(tokenizer.id_of("zz").has_value());
  CHECK(tokenizer.id_of("<x>") == 258);
}

TEST_CASE("a stream never prints half a character") {
  const Tokenizer tokenizer = load(minimal());
  StreamDecoder decoder(tokenizer, true);
  CHECK(decoder.push(0xF0).empty());
  CHECK(decoder.push(0x9F).empty());
  CHECK(decoder.push(258).empty());  // A special token leaves no trace.
  CHECK(decoder.push(0x98).empty());
  CHECK(decoder.push(0x80) == "\xF0\x9F\x98\x80");
  CHECK(decoder.push(0xE2).empty());
  CHECK(decoder.push('a') ==
        "\xEF\xBF\xBD"
        "a");
  CHECK(decoder.push(0xE2).empty());
  CHECK(decoder.finish() == "\xEF\xBF\xBD");
  CHECK(decoder.finish().empty());
}

TEST_CASE("what this tokenizer does not do is refused by key") {
  const auto refused = [](const char* pointer, const json& value) {
    json root = minimal();
    root[json::json_pointer(pointer)] = value;
    return error_of(root.dump());
  };
  CHECK_THAT(refused("/model/type", "WordPiece"),
             Catch::Contains("model.type") && Catch::Contains("WordPiece"));
  CHECK_THAT(refused("/model/byte_fallback", true), Catch::Contains("byte_fallback"));
  CHECK_THAT(refused("/model/dropout", 0.1), Catch::Contains("dropout"));
  CHECK_THAT(refused("/model/continuing_subword_prefix", "##"), Catch::Contains("continuing_subword_prefix"));
  CHECK_THAT(refused("/model/vocab", 3), Catch::Contains("model.vocab"));
  CHECK_THAT(refused("/model/vocab/ab", -1), Catch::Contains("-1"));
  CHECK_THAT(refused("/model/vocab/ab", 1LL << 40), Catch::Contains("model.vocab"));
  CHECK_THAT(refused("/model/merges", json::array({"a b", "a zz"})), Catch::Contains("number 1"));
  CHECK_THAT(refused("/model/merges", json::array({"a b c"})), Catch::Contains("merges"));
  CHECK_THAT(refused("/model/merges", json::array({7})), Catch::Contains("merges"));
  CHECK_THAT(refused("/model/merges", json::array({json::array({"a"})})), Catch::Contains("pair"));
  CHECK_THAT(refused("/normalizer/type", "Lowercase"), Catch::Contains("Lowercase"));
  CHECK_THAT(refused("/pre_tokenizer/type", "Whitespace"), Catch::Contains("Whitespace"));
  CHECK_THAT(refused("/pre_tokenizer/add_prefix_space", true), Catch::Contains("add_prefix_space"));
  CHECK_THAT(refused("/post_processor", {{"type", "TemplateProcessing"}}),
             Catch::Contains("TemplateProcessing"));
  CHECK_THAT(refused("/added_tokens/0/id", "x"), Catch::Contains("added_tokens"));
  CHECK_THAT(refused("/pre_tokenizer",
                     {{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(unclosed"}}}}),
             Catch::Contains("ByteLevel"));
}

TEST_CASE("spaces, letters and numbers are those of the reference's Unicode 16") {
  const PreTokenizer qwen({kQwen2SplitPattern});
  const auto pieces_of = [&](std::string_view text) {
    std::vector<std::string_view> pieces;
    qwen.split(text, pieces);
    return pieces.size();
  };
  CHECK(pieces_of("a\xF0\x93\x91\xA0z") == 1);  // U+13460, a letter since Unicode 16.
  CHECK(pieces_of("a\xF0\x91\xAF\xB0z") == 3);  // U+11BF0, a digit since Unicode 16.
  CHECK(pieces_of("!\xE1\xA0\x8E!") == 1);      // U+180E is no space (any more).
  CHECK(pieces_of("!\xC2\x85!") == 3);          // U+0085 is one.
}

TEST_CASE("a split pattern that does not compile is named") {
  CHECK_THROWS_WITH(PreTokenizer({"(unclosed"}), Catch::Contains("(unclosed"));
}

TEST_CASE("a split pattern that backtracks without end is stopped") {
  const PreTokenizer hostile({"(a+)+$|(b|b)*c"});
  std::vector<std::string_view> pieces;
  const std::string text = std::string(60, 'a') + "!" + std::string(60, 'b');
  CHECK_THROWS_WITH(hostile.split(text, pieces), Catch::Contains("split pattern failed"));
  // Long runs cost the real patterns steps as well.
  const PreTokenizer qwen({kQwen2SplitPattern});
  for (const char* run : {" ", "a", "!", "\n", "\t\n", " \n"}) {
    std::string long_run;
    while (long_run.size() < 200'000) long_run += run;
    pieces.clear();
    qwen.split(long_run + "x", pieces);
    CHECK_FALSE(pieces.empty());
  }
}

TEST_CASE("ids with a wide gap between them are refused, since each takes memory") {
  json root = minimal();
  root["model"]["vocab"]["ab"] = 1'000'000;
  CHECK(error_of(root.dump()) == "no error");
  root["model"]["vocab"]["ab"] = 16'000'000;
  CHECK_THAT(error_of(root.dump()), Catch::Contains("16000000"));
}

TEST_CASE("pieces cover the text, whatever the patterns") {
  const PreTokenizer literal({quote_pattern("."), kQwen2SplitPattern}), none({}), empty_match({"x*"});
  for (const std::string text : {"a.b c", "\xC3\xA9.\xF0\x9F\x98\x80", ".", "xx y"}) {
    for (const PreTokenizer* splitter : {&literal, &none, &empty_match}) {
      std::vector<std::string_view> pieces;
      splitter->split(text, pieces);
      std::string joined;
      for (const std::string_view piece : pieces) {
        CHECK(is_valid_utf8(piece));
        joined += piece;
      }
      CHECK(joined == text);
    }
  }
  std::vector<std::string_view> pieces;
  literal.split("ab.cd", pieces);
  CHECK(pieces == std::vector<std::string_view>{"ab", ".", "cd"});
}

TEST_CASE("a truncated or hostile tokenizer.json is an error, never a crash") {
  const std::string whole = minimal().dump();
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    CHECK_THAT(error_of(whole.substr(0, length)), Catch::Contains("tokenizer.json"));
  }
  CHECK_THAT(error_of(std::string(100000, '[')), Catch::Contains("tokenizer.json"));
  CHECK_THAT(error_of("{\"model\": \"\xFF\"}"), Catch::Contains("tokenizer.json"));
  CHECK_THAT(error_of(std::string(64, '\0')), Catch::Contains("tokenizer.json"));
  CHECK_THAT(error_of("[]"), Catch::Contains("(root)"));
  CHECK_THAT(error_of("{}"), Catch::Contains("`model` is absent"));
}

TEST_CASE("a missing file or an empty folder is an I/O error") {
  const TemporaryFolder folder;
  for (const auto& path : {folder.path(), folder.path() / "none.json"}) {
    try {
      Tokenizer::load(path);
      FAIL("loaded " << path);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kIo);
    }
  }
}

TEST_CASE("vocab.json and merges.txt with added_tokens.json") {
  const TemporaryFolder folder;
  folder.write("vocab.json", minimal()["model"]["vocab"].dump());
  folder.write("merges.txt", "#version: 0.2\r\nb c\r\n\r\na b\r\n");
  folder.write("added_tokens.json", R"({"<x>": 258})");
  CHECK(Tokenizer::load(folder.path()).encode("abc<x>") == Ids{'a', 257, 258});
  folder.write("merges.txt", "b c\nonly\n");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Catch::Contains("merges.txt"));
}

TEST_CASE("normalisation composes and reorders, newer marks apart") {
  CHECK(to_nfc("plain") == "plain");
  CHECK(to_nfc("e\xCC\x81") == "\xC3\xA9");
  CHECK(to_nfc("a\xCC\x81\xCC\xA3") == "\xE1\xBA\xA1\xCC\x81");  // U+0323 goes below, and first.
  // U+1DFA (Unicode 14) would go before U+0301; by Unicode 9 it ends the sequence.
  CHECK(to_nfc("m\xCC\x81\xE1\xB7\xBA") == "\xE1\xB8\xBF\xE1\xB7\xBA");
  CHECK(to_nfc("q\xCC\x81\xE1\xB7\xBA") == "q\xCC\x81\xE1\xB7\xBA");
  CHECK(to_nfc(std::string_view("\0e\xCC\x81", 4)) == std::string("\0\xC3\xA9", 3));
}

TEST_CASE("each maximal part of ill-formed UTF-8 becomes one U+FFFD") {
  const std::string mark = "\xEF\xBF\xBD";
  CHECK(replace_invalid_utf8("\xE0\x80\x80") == mark + mark + mark);  // Overlong: E0 needs A0 to BF.
  CHECK(replace_invalid_utf8("\xED\xA0\x80") == mark + mark + mark);  // A surrogate.
  CHECK(replace_invalid_utf8("\xF4\x90\x80\x80") == mark + mark + mark + mark);  // Above U+10FFFF.
  CHECK(replace_invalid_utf8("\xF0\x9F\x98z") == mark + "z");  // Three bytes of one character.
  CHECK(replace_invalid_utf8("\xE2\x82") == mark);
  CHECK(replace_invalid_utf8("\xE2\x82\xAC") == "\xE2\x82\xAC");
  CHECK(incomplete_utf8_tail("a\xF0\x9F\x98") == 3);
  CHECK(incomplete_utf8_tail("a\xE0\x80") == 0);
}

TEST_CASE("the byte alphabet is a bijection") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  CHECK(alphabet_to_bytes(bytes_to_alphabet(all)) == all);
  CHECK(bytes_to_alphabet(" \n") == "\xC4\xA0\xC4\x8A");
  CHECK_FALSE(alphabet_to_bytes(" ").has_value());
  CHECK_FALSE(alphabet_to_bytes("\xF0\x9F\x98\x80").has_value());
}

}  // namespace
}  // namespace ferro
