#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/added_tokens.h"

namespace ferro {

/// What a tokenizer's files say, checked: every id is in [0, 2^24) and at most a million are left out, every
/// merge names tokens of the vocabulary.
struct TokenizerSpec {
  struct Merge {
    std::int32_t left = 0, right = 0, merged = 0;
  };
  std::vector<std::pair<std::string, std::int32_t>> vocab;  ///< Spelling in the byte alphabet, id.
  std::vector<Merge> merges;                                ///< By rank.
  std::vector<AddedToken> added_tokens;
  std::vector<std::string> split_patterns;
  bool nfc = false;
  bool ignore_merges = false;  ///< A piece that is a token is taken whole.
};

/// Error{kIo} missing; Error{kData} malformed, truncated, or using what this tokenizer does not do (another
/// model type, normaliser, pre-tokenizer, a template that adds tokens), naming the file and the key.
TokenizerSpec read_tokenizer_json(const std::filesystem::path& file);

/// vocab.json and merges.txt, with Qwen2's pattern and NFC; added tokens from tokenizer_config.json or
/// added_tokens.json if one is there.
TokenizerSpec read_vocab_and_merges(const std::filesystem::path& folder);

}  // namespace ferro
