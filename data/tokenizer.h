#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

/// Byte-level BPE of a Hugging Face tokenizer.json (or vocab.json + merges.txt): NFC, the file's split regex
/// (Qwen2's), special tokens matched first. Same ids and text as Hugging Face's tokenizers. Immutable,
/// thread-safe.
class Tokenizer {
 public:
  /// `folder_or_file`: a tokenizer.json, or a folder with one (or with vocab.json and merges.txt).
  /// Error{kIo} missing; Error{kData} malformed, truncated, or of another model type, naming the file and the
  /// key.
  static Tokenizer load(const std::filesystem::path& folder_or_file);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::vector<std::int32_t> encode(std::string_view text) const;
  /// Invalid UTF-8 becomes U+FFFD per maximal subpart; ids without a token are skipped.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const;
  std::optional<std::int32_t> id_of(
      std::string_view token) const;               ///< Of a token's own spelling ("<|im_end|>").
  std::string token_bytes(std::int32_t id) const;  ///< Raw bytes; empty for an unknown id.
  bool is_special(std::int32_t id) const;
  std::int64_t vocab_size() const;  ///< Largest id + 1.

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Decodes a growing answer without ever printing half a character.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  std::string push(std::int32_t id);  ///< The characters that became whole.
  std::string finish();               ///< What is left, invalid bytes replaced.

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;
};

}  // namespace ferro
