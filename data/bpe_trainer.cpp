#include "data/bpe_trainer.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/added_tokens.h"
#include "data/pre_tokenizer.h"
#include "data/utf8.h"

namespace ferro {
namespace {

using Id = std::int32_t;
using Pair = std::pair<Id, Id>;

struct Word {
  std::vector<Id> ids;
  std::int64_t count = 0;
};

struct Candidate {
  std::int64_t count;
  std::string left, right;  ///< Bytes, which break ties: smaller first.
  Pair pair;
  bool operator<(const Candidate& other) const {
    if (count != other.count) return count < other.count;
    return std::tie(left, right) > std::tie(other.left, other.right);
  }
};

std::vector<Word> count_words(std::span<const std::string> texts) {
  const PreTokenizer pre_tokenizer({kQwen2SplitPattern});
  std::vector<AddedToken> special;
  for (const std::string& content : qwen_special_tokens()) special.push_back({.content = content});
  const AddedTokenMatcher matcher(std::move(special));
  std::map<std::string, std::int64_t, std::less<>> counts;
  std::vector<TextPart> parts;
  std::vector<std::string_view> pieces;
  for (const std::string& raw : texts) {
    const std::string text = to_nfc(replace_invalid_utf8(raw));
    parts.clear();
    matcher.split(text, parts);
    pieces.clear();
    for (const TextPart& part : parts) {
      if (part.id < 0) pre_tokenizer.split(part.text, pieces);
    }
    for (const std::string_view piece : pieces) ++counts.try_emplace(std::string(piece), 0).first->second;
  }
  std::vector<Word> words;
  for (const auto& [text, count] : counts) {
    Word word{{}, count};
    for (const char c : text) word.ids.push_back(static_cast<std::uint8_t>(c));
    words.push_back(std::move(word));
  }
  return words;
}

/// The classic algorithm with incremental pair counts and a heap whose stale entries are checked when popped.
/// Ids are bytes first, then merged tokens in the order of their birth.
class Learner {
 public:
  explicit Learner(std::vector<Word> words) : words_(std::move(words)) {
    for (int byte = 0; byte < 256; ++byte) add_token(std::string(1, static_cast<char>(byte)));
    for (std::size_t w = 0; w < words_.size(); ++w) count_pairs(w, 1);
    for (const auto& [pair, count] : counts_) push(pair);
  }

  void learn(std::size_t vocabulary_size) {
    while (tokens_.size() < vocabulary_size && !heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      const auto count = counts_.find(best.pair);
      if (count == counts_.end() || count->second != best.count) continue;
      if (best.count < 2) break;
      merge(best.pair);
    }
  }

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<Pair>& merges() const { return merges_; }

 private:
  Id add_token(std::string bytes) {
    const auto [found, fresh] = id_of_.try_emplace(bytes, static_cast<Id>(tokens_.size()));
    if (fresh) tokens_.push_back(std::move(bytes));
    return found->second;
  }

  void push(Pair pair) {
    const std::int64_t count = counts_.at(pair);
    heap_.push({count, token(pair.first), token(pair.second), pair});
  }
  const std::string& token(Id id) const { return tokens_[static_cast<std::size_t>(id)]; }

  void count_pairs(std::size_t w, std::int64_t sign) {
    const Word& word = words_[w];
    for (std::size_t i = 0; i + 1 < word.ids.size(); ++i) {
      const Pair pair{word.ids[i], word.ids[i + 1]};
      counts_[pair] += sign * word.count;
      touched_.insert(pair);
      if (sign > 0) places_[pair].insert(w);
    }
  }

  void merge(Pair pair) {
    const Id merged = add_token(token(pair.first) + token(pair.second));
    // A token that two pairs spell can make an old pair adjacent again: it is merged, but listed once.
    if (listed_.insert(pair).second) merges_.push_back(pair);
    touched_.clear();
    const std::set<std::size_t> affected = std::move(places_[pair]);
    places_.erase(pair);
    for (const std::size_t w : affected) {
      count_pairs(w, -1);
      replace(words_[w].ids, pair, merged);
      count_pairs(w, 1);
    }
    for (const Pair& changed : touched_) {
      if (counts_.at(changed) > 0)
        push(changed);
      else
        counts_.erase(changed);
    }
  }

  static void replace(std::vector<Id>& ids, Pair pair, Id merged) {
    std::size_t out = 0;
    for (std::size_t i = 0; i < ids.size(); ++out) {
      const bool match = i + 1 < ids.size() && ids[i] == pair.first && ids[i + 1] == pair.second;
      ids[out] = match ? merged : ids[i];
      i += match ? 2 : 1;
    }
    ids.resize(out);
  }

  std::vector<Word> words_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, Id> id_of_;
  std::vector<Pair> merges_;
  std::set<Pair> listed_;
  std::map<Pair, std::int64_t> counts_;
  std::map<Pair, std::set<std::size_t>> places_;  ///< Words that hold, or held, the pair.
  std::set<Pair> touched_;
  std::priority_queue<Candidate> heap_;
};

nlohmann::ordered_json added_token(std::int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

nlohmann::ordered_json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
}

std::string tokenizer_json_text(const Learner& learner) {
  using nlohmann::ordered_json;
  ordered_json vocab = ordered_json::object();
  const std::vector<std::string>& tokens = learner.tokens();
  for (std::size_t id = 0; id < tokens.size(); ++id) vocab.emplace(bytes_to_alphabet(tokens[id]), id);
  ordered_json merges = ordered_json::array();
  for (const Pair& pair : learner.merges()) {
    merges.push_back(bytes_to_alphabet(tokens[static_cast<std::size_t>(pair.first)]) + " " +
                     bytes_to_alphabet(tokens[static_cast<std::size_t>(pair.second)]));
  }
  ordered_json added = ordered_json::array();
  auto next = static_cast<std::int64_t>(tokens.size());
  for (const std::string& content : qwen_special_tokens()) added.push_back(added_token(next++, content));
  const ordered_json split = {{"type", "Split"},
                              {"pattern", {{"Regex", kQwen2SplitPattern}}},
                              {"behavior", "Isolated"},
                              {"invert", false}};
  const ordered_json root = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", ordered_json::array({split, byte_level()})}}},
      {"post_processor", byte_level()},
      {"decoder", byte_level()},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", ""},
        {"end_of_word_suffix", ""},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"vocab", vocab},
        {"merges", merges}}}};
  return root.dump(1) + "\n";
}

}  // namespace

const std::vector<std::string>& qwen_special_tokens() {
  static const std::vector<std::string> kTokens = {
      "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",     "<|object_ref_start|>", "<|object_ref_end|>",
      "<|box_start|>",  "<|box_end|>",    "<|quad_start|>", "<|quad_end|>",         "<|vision_start|>",
      "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",  "<|video_pad|>"};
  return kTokens;
}

void train_tokenizer(std::span<const std::string> texts, std::int64_t vocab_size,
                     const std::filesystem::path& tokenizer_json) {
  const auto special = static_cast<std::int64_t>(qwen_special_tokens().size());
  if (vocab_size < 256 + special) {
    fail(ErrorCode::kConfig, "a vocabulary of {} cannot hold 256 bytes and {} special tokens", vocab_size,
         special);
  }
  Learner learner(count_words(texts));
  learner.learn(static_cast<std::size_t>(vocab_size - special));
  write_file_atomically(tokenizer_json, tokenizer_json_text(learner));
}

}  // namespace ferro
