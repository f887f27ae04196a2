#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// Learns byte-level BPE merges from `texts` (Qwen2's pre-tokenizer, ties broken by the pair's bytes: deterministic) until the
/// vocabulary has `vocab_size` entries, special tokens included, and writes a Hugging Face tokenizer.json that
/// Tokenizer::load and transformers read. Special tokens take the last ids, in Qwen2.5-VL's order.
void train_tokenizer(std::span<const std::string> texts, std::int64_t vocab_size, const std::filesystem::path& tokenizer_json);

/// "<|endoftext|>", "<|im_start|>", "<|im_end|>", ..., "<|image_pad|>", "<|video_pad|>".
const std::vector<std::string>& qwen_special_tokens();

}  // namespace ferro
