#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// Learns byte-level BPE merges from `texts` (NFC, Qwen2's pre-tokenizer; the most frequent pair first, ties
/// broken by the pair's bytes: deterministic) until the vocabulary has `vocab_size` entries, special tokens
/// included, or no pair occurs twice, and writes a Hugging Face tokenizer.json that Tokenizer::load and
/// transformers read. The 256 byte tokens come first, special tokens take the last ids, in Qwen2.5-VL's
/// order; a vocabulary that ends up smaller than `vocab_size` is not padded (ask Tokenizer::vocab_size()).
/// Error{kConfig} when `vocab_size` is under 270.
void train_tokenizer(std::span<const std::string> texts, std::int64_t vocab_size,
                     const std::filesystem::path& tokenizer_json);

/// "<|endoftext|>", "<|im_start|>", "<|im_end|>", ..., "<|image_pad|>", "<|video_pad|>".
const std::vector<std::string>& qwen_special_tokens();

}  // namespace ferro
