#include "data/tokenizer_file.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <unordered_map>

#include <simdjson.h>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/pre_tokenizer.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::int64_t kMaxId = (1 << 24) - 1;
constexpr std::size_t kMaxHoles = 1 << 20;  ///< Ids without a token: each takes memory.
constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{1} << 30;
constexpr std::size_t kMaxDepth = 64;

/// Reads fields of one file and names file and key when something is wrong.
class Reader {
 public:
  explicit Reader(fs::path file) : file_(std::move(file)) {}

  element parse() {
    const std::string text = read_file(file_, kMaxTokenizerBytes);
    element root;
    auto error = parser_.allocate(text.size(), kMaxDepth);
    if (error == simdjson::SUCCESS) error = parser_.parse(text).get(root);
    if (error != simdjson::SUCCESS) {
      fail(ErrorCode::kData, "{}: not valid JSON ({} bytes): {}", file_.string(), text.size(),
           simdjson::error_message(error));
    }
    return root;
  }

  [[noreturn]] void wrong(std::string_view key, std::string_view what) const {
    fail(ErrorCode::kData, "{}: `{}` {}", file_.string(), key, what);
  }

  /// Absent and null are the same.
  static std::optional<element> find(object from, std::string_view key) {
    element value;
    if (from.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
    return value;
  }
  template <class T>
  T as(element value, std::string_view key, std::string_view type_name) const {
    T out;
    if (value.get(out) != simdjson::SUCCESS) wrong(key, fmt::format("is not {}", type_name));
    return out;
  }
  object as_object(element value, std::string_view key) const { return as<object>(value, key, "an object"); }
  array as_array(element value, std::string_view key) const { return as<array>(value, key, "an array"); }
  std::string_view as_text(element value, std::string_view key) const {
    return as<std::string_view>(value, key, "a string");
  }
  std::int32_t as_id(element value, std::string_view key) const {
    const auto id = as<std::int64_t>(value, key, "an integer");
    if (id < 0 || id > kMaxId) wrong(key, fmt::format("has the id {}, expected 0 to {}", id, kMaxId));
    return static_cast<std::int32_t>(id);
  }
  bool flag(object from, std::string_view key, bool fallback) const {
    const auto value = find(from, key);
    return value.has_value() ? as<bool>(*value, key, "true or false") : fallback;
  }
  std::string_view type_of(object from, std::string_view key) const {
    const auto type = find(from, "type");
    if (!type.has_value()) wrong(key, "has no `type`");
    return as_text(*type, key);
  }

 private:
  fs::path file_;
  simdjson::dom::parser parser_;
};

using Vocabulary = std::unordered_map<std::string_view, std::int32_t>;

/// Views into spec.vocab.
Vocabulary read_vocab(const Reader& reader, object vocab, TokenizerSpec& spec) {
  for (const auto& entry : vocab) {
    spec.vocab.emplace_back(std::string(entry.key), reader.as_id(entry.value, "model.vocab"));
  }
  Vocabulary index;
  index.reserve(spec.vocab.size());
  for (const auto& [spelling, id] : spec.vocab) index.emplace(spelling, id);
  return index;
}

void add_merge(const Reader& reader, const Vocabulary& vocabulary, std::string_view left,
               std::string_view right, TokenizerSpec& spec) {
  const auto id_of = [&](const std::string& token) {
    const auto found = vocabulary.find(token);
    if (found == vocabulary.end()) {
      reader.wrong("merges", fmt::format("number {} needs \"{}\", which is not in the vocabulary",
                                         spec.merges.size(), token));
    }
    return found->second;
  };
  const std::string first(left), second(right);
  spec.merges.push_back({id_of(first), id_of(second), id_of(first + second)});
}

void add_spaced_merge(const Reader& reader, const Vocabulary& vocabulary, std::string_view text,
                      TokenizerSpec& spec) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    reader.wrong("merges", fmt::format("number {} is not two tokens: \"{}\"", spec.merges.size(), text));
  }
  add_merge(reader, vocabulary, text.substr(0, space), text.substr(space + 1), spec);
}

void read_merges(const Reader& reader, const Vocabulary& vocabulary, array merges, TokenizerSpec& spec) {
  spec.merges.reserve(merges.size());
  for (const element merge : merges) {
    if (merge.is_string()) {
      add_spaced_merge(reader, vocabulary, reader.as_text(merge, "model.merges"), spec);
      continue;
    }
    const array pair = reader.as_array(merge, "model.merges");
    if (pair.size() != 2) reader.wrong("model.merges", "has an entry that is not a pair");
    add_merge(reader, vocabulary, reader.as_text(pair.at(0).value_unsafe(), "model.merges"),
              reader.as_text(pair.at(1).value_unsafe(), "model.merges"), spec);
  }
}

void refuse_text(const Reader& reader, object model, std::string_view key) {
  const auto value = Reader::find(model, key);
  if (value.has_value() && !reader.as_text(*value, key).empty()) {
    reader.wrong(fmt::format("model.{}", key), "is set; only plain byte-level BPE is read");
  }
}

void read_model(const Reader& reader, object root, TokenizerSpec& spec) {
  const auto value = Reader::find(root, "model");
  if (!value.has_value()) reader.wrong("model", "is absent");
  const object model = reader.as_object(*value, "model");
  // Old files of BPE models carry no type.
  const auto type = Reader::find(model, "type");
  if (type.has_value() && reader.as_text(*type, "model.type") != "BPE") {
    reader.wrong("model.type",
                 fmt::format("is \"{}\", expected \"BPE\"", reader.as_text(*type, "model.type")));
  }
  refuse_text(reader, model, "continuing_subword_prefix");
  refuse_text(reader, model, "end_of_word_suffix");
  if (reader.flag(model, "byte_fallback", false))
    reader.wrong("model.byte_fallback", "is true; not byte-level BPE");
  const auto dropout = Reader::find(model, "dropout");
  if (dropout.has_value() && reader.as<double>(*dropout, "model.dropout", "a number") != 0.0) {
    reader.wrong("model.dropout", "is set; encoding would be random");
  }
  spec.ignore_merges = reader.flag(model, "ignore_merges", false);
  const auto vocab = Reader::find(model, "vocab");
  if (!vocab.has_value()) reader.wrong("model.vocab", "is absent");
  const Vocabulary vocabulary = read_vocab(reader, reader.as_object(*vocab, "model.vocab"), spec);
  const auto merges = Reader::find(model, "merges");
  if (!merges.has_value()) reader.wrong("model.merges", "is absent");
  read_merges(reader, vocabulary, reader.as_array(*merges, "model.merges"), spec);
}

AddedToken read_added_token(const Reader& reader, object token, std::int32_t id) {
  const auto content = Reader::find(token, "content");
  if (!content.has_value()) reader.wrong("added_tokens", "has an entry without `content`");
  const std::string_view text = reader.as_text(*content, "added_tokens.content");
  const bool special = reader.flag(token, "special", false);
  return {.id = id,
          .content = std::string(text),
          .single_word = reader.flag(token, "single_word", false),
          .lstrip = reader.flag(token, "lstrip", false),
          .rstrip = reader.flag(token, "rstrip", false),
          .normalized = reader.flag(token, "normalized", !special),
          .special = special};
}

void read_added_tokens(const Reader& reader, object root, TokenizerSpec& spec) {
  const auto value = Reader::find(root, "added_tokens");
  if (!value.has_value()) return;
  for (const element entry : reader.as_array(*value, "added_tokens")) {
    const object token = reader.as_object(entry, "added_tokens");
    const auto id = Reader::find(token, "id");
    if (!id.has_value()) reader.wrong("added_tokens", "has an entry without `id`");
    spec.added_tokens.push_back(read_added_token(reader, token, reader.as_id(*id, "added_tokens.id")));
  }
}

void read_normalizer(const Reader& reader, object node, TokenizerSpec& spec) {
  const std::string_view type = reader.type_of(node, "normalizer");
  if (type == "NFC") {
    spec.nfc = true;
  } else if (type == "Sequence") {
    const auto list = Reader::find(node, "normalizers");
    if (!list.has_value()) reader.wrong("normalizer.normalizers", "is absent");
    for (const element child : reader.as_array(*list, "normalizer.normalizers")) {
      read_normalizer(reader, reader.as_object(child, "normalizer.normalizers"), spec);
    }
  } else {
    reader.wrong("normalizer", fmt::format("is \"{}\", expected \"NFC\" or null", type));
  }
}

void read_split(const Reader& reader, object node, TokenizerSpec& spec) {
  const auto behavior = Reader::find(node, "behavior");
  const bool isolated =
      behavior.has_value() && reader.as_text(*behavior, "pre_tokenizer.behavior") == "Isolated";
  // With every piece kept on its own, inverting a pattern changes nothing.
  if (!isolated) reader.wrong("pre_tokenizer.behavior", "is not \"Isolated\"");
  const auto value = Reader::find(node, "pattern");
  if (!value.has_value()) reader.wrong("pre_tokenizer.pattern", "is absent");
  const object pattern = reader.as_object(*value, "pre_tokenizer.pattern");
  if (const auto regex = Reader::find(pattern, "Regex")) {
    spec.split_patterns.emplace_back(reader.as_text(*regex, "pre_tokenizer.pattern.Regex"));
  } else if (const auto literal = Reader::find(pattern, "String")) {
    spec.split_patterns.push_back(quote_pattern(reader.as_text(*literal, "pre_tokenizer.pattern.String")));
  } else {
    reader.wrong("pre_tokenizer.pattern", "has neither `Regex` nor `String`");
  }
}

/// True when the bytes of the text become the byte alphabet.
bool read_pre_tokenizer(const Reader& reader, object node, TokenizerSpec& spec) {
  const std::string_view type = reader.type_of(node, "pre_tokenizer");
  if (type == "Split") {
    read_split(reader, node, spec);
    return false;
  }
  if (type == "ByteLevel") {
    if (reader.flag(node, "add_prefix_space", true))
      reader.wrong("pre_tokenizer.add_prefix_space", "is true");
    if (reader.flag(node, "use_regex", true)) spec.split_patterns.emplace_back(kGpt2SplitPattern);
    return true;
  }
  if (type != "Sequence") {
    reader.wrong("pre_tokenizer",
                 fmt::format("is \"{}\", expected Split, ByteLevel or a Sequence of them", type));
  }
  const auto list = Reader::find(node, "pretokenizers");
  if (!list.has_value()) reader.wrong("pre_tokenizer.pretokenizers", "is absent");
  bool byte_level = false;
  for (const element child : reader.as_array(*list, "pre_tokenizer.pretokenizers")) {
    byte_level = read_pre_tokenizer(reader, reader.as_object(child, "pre_tokenizer.pretokenizers"), spec) ||
                 byte_level;
  }
  return byte_level;
}

void check_post_processor(const Reader& reader, object root) {
  const auto value = Reader::find(root, "post_processor");
  if (!value.has_value()) return;
  const std::string_view type = reader.type_of(reader.as_object(*value, "post_processor"), "post_processor");
  if (type != "ByteLevel") {
    reader.wrong("post_processor",
                 fmt::format("is \"{}\"; tokens added to every text are not supported", type));
  }
}

void read_configured_tokens(const fs::path& folder, TokenizerSpec& spec) {
  std::error_code ignored;
  if (fs::exists(folder / "tokenizer_config.json", ignored)) {
    Reader reader(folder / "tokenizer_config.json");
    const auto tokens = Reader::find(reader.as_object(reader.parse(), "(root)"), "added_tokens_decoder");
    if (!tokens.has_value()) return;
    for (const auto& entry : reader.as_object(*tokens, "added_tokens_decoder")) {
      std::int64_t id = -1;
      const char* end = entry.key.data() + entry.key.size();
      const auto [stop, error] = std::from_chars(entry.key.data(), end, id);
      if (error != std::errc() || stop != end || id < 0 || id > kMaxId) {
        reader.wrong("added_tokens_decoder", fmt::format("has the key \"{}\", expected an id", entry.key));
      }
      const object token = reader.as_object(entry.value, "added_tokens_decoder");
      spec.added_tokens.push_back(read_added_token(reader, token, static_cast<std::int32_t>(id)));
    }
  } else if (fs::exists(folder / "added_tokens.json", ignored)) {
    Reader reader(folder / "added_tokens.json");
    for (const auto& entry : reader.as_object(reader.parse(), "(root)")) {
      spec.added_tokens.push_back(
          {.id = reader.as_id(entry.value, entry.key), .content = std::string(entry.key), .special = true});
    }
  }
}

void check_holes(const Reader& reader, const TokenizerSpec& spec) {
  std::int32_t largest = 0;
  for (const auto& [spelling, id] : spec.vocab) largest = std::max(largest, id);
  for (const AddedToken& token : spec.added_tokens) largest = std::max(largest, token.id);
  const std::size_t tokens = spec.vocab.size() + spec.added_tokens.size();
  if (static_cast<std::size_t>(largest) > tokens + kMaxHoles)
    reader.wrong("model.vocab", fmt::format("has the id {} among {} tokens", largest, tokens));
}

}  // namespace

TokenizerSpec read_tokenizer_json(const fs::path& file) {
  Reader reader(file);
  const object root = reader.as_object(reader.parse(), "(root)");
  TokenizerSpec spec;
  read_model(reader, root, spec);
  read_added_tokens(reader, root, spec);
  if (const auto node = Reader::find(root, "normalizer")) {
    read_normalizer(reader, reader.as_object(*node, "normalizer"), spec);
  }
  const auto pre_tokenizer = Reader::find(root, "pre_tokenizer");
  if (!pre_tokenizer.has_value() ||
      !read_pre_tokenizer(reader, reader.as_object(*pre_tokenizer, "pre_tokenizer"), spec)) {
    reader.wrong("pre_tokenizer", "has no ByteLevel; only byte-level BPE is read");
  }
  check_post_processor(reader, root);
  check_holes(reader, spec);
  return spec;
}

TokenizerSpec read_vocab_and_merges(const fs::path& folder) {
  Reader reader(folder / "vocab.json");
  TokenizerSpec spec;
  spec.nfc = true;
  spec.split_patterns.emplace_back(kQwen2SplitPattern);
  const Vocabulary vocabulary = read_vocab(reader, reader.as_object(reader.parse(), "(root)"), spec);
  const std::string merges = read_file(folder / "merges.txt", kMaxTokenizerBytes);
  const Reader merges_reader(folder / "merges.txt");
  for (std::size_t at = 0; at < merges.size();) {
    const std::size_t end = std::min(merges.find('\n', at), merges.size());
    std::string_view line = std::string_view(merges).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool version = at == 0 && line.starts_with("#version");
    if (!line.empty() && !version) add_spaced_merge(merges_reader, vocabulary, line, spec);
    at = end + 1;
  }
  read_configured_tokens(folder, spec);
  check_holes(reader, spec);
  return spec;
}

}  // namespace ferro
