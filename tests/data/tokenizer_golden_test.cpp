#include <map>

#include <catch2/catch.hpp>

#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "tests/data/text_fixtures.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;

const Tokenizer& qwen(const std::filesystem::path& folder) {
  static const Tokenizer kTokenizer = Tokenizer::load(folder);
  return kTokenizer;
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

/// Whole and streamed, special tokens kept and skipped.
bool decodes_as_stored(const Tokenizer& tokenizer, const json& item) {
  const Ids ids = item["ids"].get<Ids>();
  bool same = true;
  for (const bool skip_special : {false, true}) {
    const std::string stored = item[skip_special ? "decoded_skip_special" : "decoded"];
    same = same && tokenizer.decode(ids, skip_special) == stored;
    same = same && streamed(tokenizer, ids, skip_special) == stored;
  }
  CHECK(same);
  return same;
}

/// Rows of each kind, and how many of them differ.
class CountsByKind {
 public:
  explicit CountsByKind(std::string what) : what_(std::move(what)) {}
  void add(const std::string& kind, bool same) {
    ++counts_[kind].first;
    counts_[kind].second += same ? 0 : 1;
  }
  ~CountsByKind() {
    for (const auto& [kind, count] : counts_) {
      testing::report_equality(what_ + (kind.empty() ? "" : " " + kind), count.first, count.second);
    }
  }
  CountsByKind(const CountsByKind&) = delete;
  CountsByKind& operator=(const CountsByKind&) = delete;

 private:
  std::string what_;
  std::map<std::string, std::pair<std::size_t, std::size_t>> counts_;
};

json read_rows(const std::filesystem::path& golden, const char* section) {
  const json entry = testing::read_json(golden / "manifest.json")["tokenizer"][section];
  json rows = testing::read_json(golden / entry["file"].get<std::string>());
  REQUIRE(rows.size() == entry["rows"].get<std::size_t>());
  return rows;
}

TEST_CASE("texts become the ids of Hugging Face's tokenizer, and come back") {
  const auto golden = testing::golden_dir(), folder = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/tokenizer/encode");
  FERRO_SKIP_UNLESS(folder, "the Qwen2.5-VL tokenizer folder");
  const Tokenizer& tokenizer = qwen(*folder);
  const json rows = read_rows(*golden, "encode");
  CountsByKind encoded("tokenizer encode"), decoded("tokenizer decode of encoded");
  for (const json& row : rows) {
    INFO(row["kind"] << " " << row["text"].dump());
    const bool same = tokenizer.encode(row["text"].get<std::string>()) == row["ids"].get<Ids>();
    CHECK(same);
    encoded.add(row["kind"], same);
    decoded.add(row["kind"], decodes_as_stored(tokenizer, row));
  }
}

TEST_CASE("vocab.json with merges.txt gives the same ids as tokenizer.json") {
  const auto golden = testing::golden_dir(), folder = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/tokenizer/encode");
  FERRO_SKIP_UNLESS(folder, "the Qwen2.5-VL tokenizer folder");
  const testing::TemporaryFolder pair;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"}) {
    std::filesystem::copy_file(*folder / name, pair.path() / name);
  }
  const Tokenizer tokenizer = Tokenizer::load(pair.path());
  CHECK(tokenizer.vocab_size() == qwen(*folder).vocab_size());
  CountsByKind counts("tokenizer encode by vocab.json and merges.txt");
  for (const json& row : read_rows(*golden, "encode")) {
    const bool same = tokenizer.encode(row["text"].get<std::string>()) == row["ids"].get<Ids>();
    CHECK(same);
    counts.add("", same);
  }
}

TEST_CASE("ids become the text of Hugging Face's tokenizer, whole and as a stream") {
  const auto golden = testing::golden_dir(), folder = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/tokenizer/decode");
  FERRO_SKIP_UNLESS(folder, "the Qwen2.5-VL tokenizer folder");
  const json rows = read_rows(*golden, "decode");
  CountsByKind counts("tokenizer decode of id lists");
  for (const json& row : rows) {
    INFO(row["note"]);
    counts.add("", decodes_as_stored(qwen(*folder), row));
  }
}

// The template takes an item that carries an `image` key as an image, whatever its type says.
ContentPart part_of(const json& item) {
  const std::string type = item.value("type", "");
  if (type == "image" || item.contains("image") || item.contains("image_url")) {
    return {ContentPart::Kind::kImage, {}};
  }
  if (type == "video" || item.contains("video")) return {ContentPart::Kind::kVideo, {}};
  return {ContentPart::Kind::kText, item["text"].get<std::string>()};
}

std::vector<Message> messages_of(const json& conversation) {
  std::vector<Message> messages;
  for (const json& item : conversation) {
    Message message{item["role"].get<std::string>(), {}};
    if (item["content"].is_string()) {
      message.content.push_back({ContentPart::Kind::kText, item["content"].get<std::string>()});
    } else {
      for (const json& part : item["content"]) message.content.push_back(part_of(part));
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

Ids expand(const Ids& ids, std::int32_t image, std::int32_t video, const json& item, int merge) {
  std::size_t images = 0, videos = 0;
  Ids out;
  for (const std::int32_t id : ids) {
    int copies = 1;
    if (id == image || id == video) {
      const json& grid =
          id == image ? item["image_grid_thw"].at(images++) : item["video_grid_thw"].at(videos++);
      copies = grid[0].get<int>() * grid[1].get<int>() * grid[2].get<int>() / (merge * merge);
    }
    out.insert(out.end(), static_cast<std::size_t>(copies), id);
  }
  return out;
}

TEST_CASE("conversations render and tokenise as the reference processor does") {
  const auto golden = testing::golden_dir(), folder = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/chat");
  FERRO_SKIP_UNLESS(folder, "the Qwen2.5-VL tokenizer folder");
  const Tokenizer& tokenizer = qwen(*folder);
  const json manifest = testing::read_json(*golden / "manifest.json")["chat"];
  const json rows = testing::read_json(*golden / manifest["file"].get<std::string>());
  std::size_t compared = 0;
  const int merge = testing::read_json(*folder / "preprocessor_config.json")["merge_size"];
  for (const json& row : rows) {
    const std::string name = row["name"];
    INFO(name);
    if (!manifest["cases"].contains(name)) continue;
    ++compared;
    const ChatOptions options{.add_vision_id = row["template_kwargs"].value("add_vision_id", false)};
    const std::string rendered =
        render_chat(messages_of(row["messages"]), row["add_generation_prompt"].get<bool>(), options);
    const bool same_text = rendered == row["rendered"].get<std::string>();
    CHECK(same_text);
    testing::report_equality("chat " + name + " rendered bytes", rendered.size(),
                             same_text ? 0 : rendered.size());
    REQUIRE(row.contains("input_ids") == manifest["cases"][name]["has_input_ids"].get<bool>());
    if (!row.contains("input_ids")) continue;
    const Ids ids = expand(tokenizer.encode(rendered), *tokenizer.id_of("<|image_pad|>"),
                           *tokenizer.id_of("<|video_pad|>"), row, merge);
    const bool same_ids = ids == row["input_ids"].get<Ids>();
    CHECK(same_ids);
    testing::report_equality("chat " + name + " ids", ids.size(), same_ids ? 0 : ids.size());
  }
  CHECK(compared == manifest["cases"].size());
}

}  // namespace
}  // namespace ferro
