#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "data/added_tokens.h"
#include "data/bpe_merger.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_file.h"
#include "data/utf8.h"

namespace ferro {
namespace {

std::vector<AddedToken> tokens_with(const std::vector<AddedToken>& tokens, bool normalized, bool nfc) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : tokens) {
    if (token.normalized != normalized) continue;
    if (normalized && nfc) token.content = to_nfc(token.content);
    chosen.push_back(std::move(token));
  }
  return chosen;
}

}  // namespace

struct Tokenizer::Impl {
  std::unordered_map<std::string, std::int32_t> id_of_spelling;
  std::vector<std::string> bytes_of_id;
  std::vector<bool> known, special;
  std::array<std::int32_t, 256> byte_ids{};  ///< -1: no token for this byte.
  BpeMerger merger;
  PreTokenizer pre_tokenizer;
  AddedTokenMatcher raw_tokens, normalized_tokens;
  bool nfc, ignore_merges;

  explicit Impl(TokenizerSpec spec)
      : merger(spec.merges.size()),
        pre_tokenizer(spec.split_patterns),
        raw_tokens(tokens_with(spec.added_tokens, false, spec.nfc)),
        normalized_tokens(tokens_with(spec.added_tokens, true, spec.nfc)),
        nfc(spec.nfc),
        ignore_merges(spec.ignore_merges) {
    for (const TokenizerSpec::Merge& merge : spec.merges) merger.add(merge.left, merge.right, merge.merged);
    id_of_spelling.reserve(spec.vocab.size() + spec.added_tokens.size());
    for (auto& [spelling, id] : spec.vocab) add_token(std::move(spelling), id, false);
    for (AddedToken& token : spec.added_tokens) add_token(std::move(token.content), token.id, token.special);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char one = static_cast<char>(byte);
      const auto found = id_of_spelling.find(bytes_to_alphabet({&one, 1}));
      byte_ids[byte] = found == id_of_spelling.end() ? -1 : found->second;
    }
  }

  void add_token(std::string spelling, std::int32_t id, bool is_special) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= bytes_of_id.size()) {
      bytes_of_id.resize(index + 1);
      known.resize(index + 1);
      special.resize(index + 1);
    }
    bytes_of_id[index] = alphabet_to_bytes(spelling).value_or(spelling);
    known[index] = true;
    special[index] = special[index] || is_special;
    id_of_spelling.insert_or_assign(std::move(spelling), id);
  }

  void encode_piece(std::string_view piece, std::vector<std::int32_t>& scratch,
                    std::vector<std::int32_t>& ids) const {
    if (ignore_merges) {
      const auto whole = id_of_spelling.find(bytes_to_alphabet(piece));
      if (whole != id_of_spelling.end()) {
        ids.push_back(whole->second);
        return;
      }
    }
    scratch.clear();
    for (const char c : piece) {
      const std::int32_t id = byte_ids[static_cast<std::uint8_t>(c)];
      if (id >= 0) scratch.push_back(id);
    }
    merger.merge(scratch);
    ids.insert(ids.end(), scratch.begin(), scratch.end());
  }

  void encode_text(std::string_view raw, std::vector<std::int32_t>& ids) const {
    const std::string text = nfc ? to_nfc(raw) : std::string(raw);
    std::vector<TextPart> parts;
    normalized_tokens.split(text, parts);
    std::vector<std::string_view> pieces;
    std::vector<std::int32_t> scratch;
    for (const TextPart& part : parts) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      pieces.clear();
      pre_tokenizer.split(part.text, pieces);
      for (const std::string_view piece : pieces) encode_piece(piece, scratch, ids);
    }
  }

  bool is_known(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < known.size() && known[static_cast<std::size_t>(id)];
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder_or_file) {
  namespace fs = std::filesystem;
  const fs::path& path = folder_or_file;
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return Tokenizer(std::make_unique<Impl>(read_tokenizer_json(path)));
  if (fs::exists(path / "tokenizer.json", ignored)) {
    return Tokenizer(std::make_unique<Impl>(read_tokenizer_json(path / "tokenizer.json")));
  }
  if (!fs::exists(path / "vocab.json", ignored)) {
    fail(ErrorCode::kIo, "{}: no tokenizer.json in this folder, nor vocab.json with merges.txt",
         path.string());
  }
  return Tokenizer(std::make_unique<Impl>(read_vocab_and_merges(path)));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = replace_invalid_utf8(text);
    text = repaired;
  }
  std::vector<std::int32_t> ids;
  std::vector<TextPart> parts;
  impl_->raw_tokens.split(text, parts);
  for (const TextPart& part : parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      impl_->encode_text(part.text, ids);
    }
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    if (!impl_->is_known(id) || (skip_special_tokens && is_special(id))) continue;
    bytes += impl_->bytes_of_id[static_cast<std::size_t>(id)];
  }
  return replace_invalid_utf8(bytes);
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  const auto found = impl_->id_of_spelling.find(std::string(token));
  if (found == impl_->id_of_spelling.end()) return std::nullopt;
  return found->second;
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  return impl_->is_known(id) ? impl_->bytes_of_id[static_cast<std::size_t>(id)] : std::string();
}

bool Tokenizer::is_special(std::int32_t id) const {
  return impl_->is_known(id) && impl_->special[static_cast<std::size_t>(id)];
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(impl_->bytes_of_id.size());
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string StreamDecoder::push(std::int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) return {};
  pending_ += tokenizer_.token_bytes(id);
  const std::size_t whole = pending_.size() - incomplete_utf8_tail(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return text;
}

std::string StreamDecoder::finish() {
  return replace_invalid_utf8(std::exchange(pending_, {}));
}

}  // namespace ferro
