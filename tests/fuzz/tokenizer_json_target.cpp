#include <numeric>

#include "data/tokenizer.h"
#include "data/utf8.h"
#include "tests/fuzz/memory_file.h"

namespace {

/// Decoded piece by piece or at once, the text is the same and valid.
void decode_all(const ferro::Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  using ferro::testing::must_hold;
  for (const bool skip : {false, true}) {
    const std::string whole = tokenizer.decode(ids, skip);
    must_hold(ferro::is_valid_utf8(whole), "decoded text that is not UTF-8");
    ferro::StreamDecoder stream(tokenizer, skip);
    std::string pieces;
    for (const std::int32_t id : ids) {
      const std::string piece = stream.push(id);
      must_hold(ferro::is_valid_utf8(piece), "half a character");
      pieces += piece;
    }
    must_hold(pieces + stream.finish() == whole, "streamed text that differs");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ferro::testing::MemoryFile file;
  const std::string_view content = ferro::testing::text_of(data, size);
  const std::filesystem::path& path = file.hold(content);
  ferro::testing::reads_or_refuses([&] {
    const ferro::Tokenizer tokenizer = ferro::Tokenizer::load(path);
    std::vector<std::int32_t> some(
        static_cast<std::size_t>(std::min<std::int64_t>(tokenizer.vocab_size(), 600)));
    std::iota(some.begin(), some.end(), -1);
    decode_all(tokenizer, some);
    constexpr std::size_t kLongest = 200;
    for (const std::string_view text :
         {std::string_view("It's  a happy\nface \xC3\xA9\xE1\x84\x80\xF0\x9F\x98\x80 2024 <|im_end|>\n\n x"),
          content.substr(0, kLongest), content.substr(content.size() - std::min(kLongest, content.size()))}) {
      ferro::testing::reads_or_refuses([&] { decode_all(tokenizer, tokenizer.encode(text)); });
    }
  });
  return 0;
}
