#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "data/image_processor_config.h"
#include "launch/plugins.h"
#include "model/safetensors_header.h"
#include "tests/core/scratch_folder.h"
#include "tests/golden.h"
#include "tests/launch/run_ferro.h"

// The golden answers through the whole path of `ferro generate`: text -> tokenizer -> placeholders and media
// -> engine -> streamed text. The golden models have no tokenizer, so one is made in which each id has a
// spelling of its own; their pictures are given as pixels, so a loader hands those out.

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Values of a tensor that the manifest names, as T in the file.
template <class T>
std::vector<T> values_of(const fs::path& golden, const json& reference) {
  const fs::path file = golden / reference.at("file").get<std::string>();
  const std::string bytes = read_file(file);
  const SafetensorsHeader header =
      read_safetensors_header(std::as_bytes(std::span(bytes.data(), bytes.size())), file.string());
  const SafetensorsEntry& entry = header.entries.at(reference.at("tensor").get<std::string>());
  REQUIRE(entry.dtype == (std::is_same_v<T, float> ? "F32" : "I64"));
  std::vector<T> values((entry.end - entry.begin) / sizeof(T));
  std::memcpy(values.data(), bytes.data() + header.data_begin + entry.begin, entry.end - entry.begin);
  return values;
}

struct Specials {
  std::int32_t pad, image, video, vision_start, vision_end, eos;
  std::vector<std::int32_t> stops;  ///< What ends an answer of this checkpoint.
  std::int32_t patch_values = 0, temporal = 0, merge = 0, patch = 0;
};

std::string spelling_of(std::int32_t id, const Specials& special) {
  if (id == special.image) return "<|image_pad|>";
  if (id == special.video) return "<|video_pad|>";
  if (id == special.vision_start) return "<|vision_start|>";
  if (id == special.vision_end) return "<|vision_end|>";
  return "<t" + std::to_string(id) + ">";
}

/// One id, a list, or none.
std::vector<std::int32_t> ids_in(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  return found->is_array() ? found->get<std::vector<std::int32_t>>()
                           : std::vector{found->get<std::int32_t>()};
}

/// The end ids of generation_config.json; without, those of config.json and its padding id, which is the
/// begin id where there is none.
std::vector<std::int32_t> stops_of(const fs::path& checkpoint, const json& config, const json& text) {
  std::vector<std::int32_t> stops;
  if (fs::exists(checkpoint / "generation_config.json"))
    stops = ids_in(testing::read_json(checkpoint / "generation_config.json"), "eos_token_id");
  if (!stops.empty()) return stops;
  const auto of_config = [&](const char* key) {
    const std::vector<std::int32_t> ids = ids_in(config, key);
    return ids.empty() ? ids_in(text, key) : ids;
  };
  stops = of_config("eos_token_id");
  std::vector<std::int32_t> padding = of_config("pad_token_id");
  if (padding.empty()) padding = of_config("bos_token_id");
  stops.insert(stops.end(), padding.begin(), padding.end());
  return stops;
}

Specials specials_of(const json& manifest, const fs::path& checkpoint) {
  const json& ids = manifest.at("model").at("special_ids");
  Specials special{ids.at("pad"),
                   ids.at("image"),
                   ids.at("video"),
                   ids.at("vision_start"),
                   ids.at("vision_end"),
                   ids.at("eos"),
                   {}};
  const json config = testing::read_json(checkpoint / "config.json"), vision = config.at("vision_config");
  const json& text = config.contains("text_config") ? config.at("text_config") : config;
  special.stops = stops_of(checkpoint, config, text);
  special.patch = vision.value("patch_size", 14);
  special.temporal = vision.value("temporal_patch_size", 2);
  special.merge = vision.value("spatial_merge_size", 2);
  special.patch_values = 3 * special.temporal * special.patch * special.patch;
  return special;
}

/// The checkpoint's files with a tokenizer and a processor beside them.
fs::path askable(const testing::ScratchFolder& scratch, const fs::path& checkpoint, std::size_t number,
                 std::int64_t vocabulary, const Specials& special) {
  const fs::path folder = scratch / ("model" + std::to_string(number));
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(checkpoint))
    fs::create_symlink(fs::absolute(entry.path()), folder / entry.path().filename());
  json tokens = json::array();
  for (std::int32_t id = 0; id < vocabulary; ++id)
    tokens.push_back({{"id", id}, {"content", spelling_of(id, special)}, {"special", false}});
  const json tokenizer = {
      {"added_tokens", tokens},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", {{"!", 0}}}, {"merges", json::array()}}}};
  write_file_atomically(folder / "tokenizer.json", tokenizer.dump());
  ImageProcessorConfig processor;
  processor.patch_size = special.patch;
  processor.temporal_patch_size = special.temporal;
  processor.merge_size = special.merge;
  processor.save(folder / "preprocessor_config.json");
  return folder;
}

using Media = std::vector<std::shared_ptr<const ImageInput>>;

/// All media of a forward case, in order.
Media media_of(const fs::path& golden, const json& inputs, const Specials& special) {
  Media media;
  const bool video = inputs.contains("video_grid_thw");
  if (!video && !inputs.contains("image_grid_thw")) return media;
  const auto grids = values_of<std::int64_t>(golden, inputs.at(video ? "video_grid_thw" : "image_grid_thw"));
  const std::string name = video ? "pixel_values_videos" : "pixel_values";
  const bool whole = inputs.contains(name);
  const std::vector<float> stored = values_of<float>(golden, inputs.at(whole ? name : name + "_one_frame"));
  const std::size_t frame = static_cast<std::size_t>(special.patch * special.patch),
                    copies = whole ? 1 : static_cast<std::size_t>(special.temporal);
  auto next = stored.begin();
  for (std::size_t i = 0; i + 3 <= grids.size(); i += 3) {
    ImageInput input;
    input.grid = {static_cast<std::int32_t>(grids[i]), static_cast<std::int32_t>(grids[i + 1]),
                  static_cast<std::int32_t>(grids[i + 2])};
    input.patch_values = special.patch_values;
    input.video = video;
    if (video && inputs.contains("second_per_grid_ts"))
      input.second_per_grid =
          static_cast<double>(values_of<float>(golden, inputs.at("second_per_grid_ts"))[i / 3]);
    const auto wanted = static_cast<std::size_t>(input.grid.patches() * special.patch_values);
    // A still is stored as one frame: each channel's values come `temporal` times.
    const std::size_t piece = whole ? wanted : frame;
    while (input.pixel_values.size() < wanted) {
      for (std::size_t copy = 0; copy < copies; ++copy)
        input.pixel_values.insert(input.pixel_values.end(), next, next + static_cast<std::ptrdiff_t>(piece));
      next += static_cast<std::ptrdiff_t>(piece);
    }
    media.push_back(std::make_shared<const ImageInput>(std::move(input)));
  }
  REQUIRE(next == stored.end());
  return media;
}

/// "0", "1", ... are the media of a case.
class NumberedLoader final : public ImageLoader {
 public:
  explicit NumberedLoader(Media media) : media_(std::move(media)) {}
  std::shared_ptr<const ImageInput> load(const fs::path& path, const AugmentKey* /*augment*/) override {
    return media_.at(std::stoul(path.string()));
  }

 private:
  Media media_;
};

struct AskedRow {
  std::string text;
  std::vector<fs::path> media;
};

/// Each row of a forward case as a question: a run of placeholders is one, as the text that a user gives has
/// it.
std::vector<AskedRow> rows_of(const fs::path& golden, const json& inputs, const Media& media,
                              const Specials& special) {
  const auto ids = values_of<std::int64_t>(golden, inputs.at("input_ids")),
             mask = values_of<std::int64_t>(golden, inputs.at("attention_mask"));
  const auto length = inputs.at("input_ids").at("shape").at(1).get<std::size_t>();
  std::vector<AskedRow> rows(ids.size() / length);
  std::size_t used = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (mask[i] == 0) continue;
    AskedRow& row = rows[i / length];
    const auto id = static_cast<std::int32_t>(ids[i]);
    row.text += spelling_of(id, special);
    if (id != special.image && id != special.video) continue;
    row.media.emplace_back(std::to_string(used));
    i += static_cast<std::size_t>(media.at(used++)->grid.patches() / (special.merge * special.merge)) - 1;
  }
  REQUIRE(used == media.size());
  return rows;
}

/// What of generate()'s tokens this program must give too. It ends at the checkpoint's own stop ids, which
/// generate() was told not to, and never samples a placeholder: what generate() says after one has no match
/// here.
struct Comparable {
  std::vector<std::int32_t> tokens;
  bool whole = true;       ///< The answer has no more than these.
  bool forbidden = false;  ///< They end before a placeholder.
};

Comparable comparable(const std::vector<std::int32_t>& tokens, const json& entry, const Specials& special) {
  const auto is_in = [](const std::vector<std::int32_t>& ids, std::int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  const std::vector<std::int32_t> own_ends = ids_in(entry, "eos_token_ids");
  Comparable part;
  for (const std::int32_t id : tokens) {
    if (id == special.image || id == special.video) {
      part.whole = false;
      part.forbidden = true;
      break;
    }
    part.tokens.push_back(id);
    if (is_in(special.stops, id)) break;
    if (is_in(own_ends, id)) {  // What follows is padding.
      part.whole = false;
      break;
    }
  }
  return part;
}

GenerateRequest request_of(const fs::path& model, const AskedRow& row, const Media& media,
                           const json& entry) {
  GenerateRequest request;
  request.asking.model = model;
  request.asking.data.position_rule = "transformers5";
  request.asking.make_loader = [media](const ImageProcessorConfig&, const AugmentConfig&, std::size_t) {
    return std::make_unique<NumberedLoader>(media);
  };
  request.question.text = row.text;
  request.question.images = row.media;
  request.question.rendered = true;
  request.max_new_tokens = entry.at("max_new_tokens");
  return request;
}

struct Counts {
  std::size_t compared = 0, differing = 0, cut = 0;
};

/// Adds the tokens that differ from the golden answer; the streamed text must spell the answer.
void compare_answer(const fs::path& model, const AskedRow& row, const Media& media, const json& entry,
                    const std::vector<std::int32_t>& golden_tokens, const Specials& special, Counts& counts) {
  GenerateRequest request = request_of(model, row, media, entry);
  std::string streamed;
  request.on_text = [&](std::string_view text) { streamed += text; };
  const std::vector<Answer> answers = runtime().generate(request);
  REQUIRE(answers.size() == 1);
  const std::vector<AnswerToken>& tokens = answers[0].tokens;
  const Comparable expected = comparable(golden_tokens, entry, special);
  REQUIRE(tokens.size() >= expected.tokens.size());
  if (expected.whole) CHECK(tokens.size() == expected.tokens.size());
  std::string spelled;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    spelled += spelling_of(tokens[i].id, special);
    if (i < expected.tokens.size()) counts.differing += tokens[i].id != expected.tokens[i] ? 1 : 0;
  }
  CHECK(streamed == spelled);
  CHECK(answers[0].text == spelled);
  counts.compared += expected.tokens.size();
  counts.cut += expected.forbidden ? 1 : 0;
}

struct GoldenAsking {
  json manifest, expected;
  fs::path golden;
  testing::ScratchFolder scratch;

  explicit GoldenAsking(fs::path folder)
      : manifest(testing::read_json(folder / "manifest.json")), golden(std::move(folder)) {
    expected = testing::read_json(golden / greedy().at("file").get<std::string>());
  }
  const json& greedy() const { return manifest.at("generation").at("greedy"); }
  const json& inputs(const json& entry) const {
    return manifest.at("forward").at("cases").at(entry.at("forward_case").get<std::string>()).at("inputs");
  }
};

TEST_CASE("ferro generate gives the golden answers from every checkpoint, and streams their text") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/greedy");
  const GoldenAsking set(*golden);
  std::size_t number = 0;
  for (const json& checkpoint : set.manifest.at("model").at("checkpoints")) {
    const fs::path path = *golden / checkpoint.at("path").get<std::string>();
    const Specials special = specials_of(set.manifest, path);
    const fs::path model = askable(set.scratch, path, number++, checkpoint.at("vocab_size"), special);
    for (const auto& [name, entry] : set.greedy().at("cases").items()) {
      const json& tokens = set.expected.at(name).at("new_tokens");
      const Media media = media_of(*golden, set.inputs(entry), special);
      const std::vector<AskedRow> rows = rows_of(*golden, set.inputs(entry), media, special);
      REQUIRE(rows.size() == tokens.size());
      Counts counts;
      for (std::size_t row = 0; row < rows.size(); ++row)
        compare_answer(model, rows[row], media, entry, tokens[row], special, counts);
      const std::string what =
          "generate " + name + " from " + checkpoint.at("path").get<std::string>() +
          (counts.cut == 0 ? "" : ", " + std::to_string(counts.cut) + " up to a placeholder") + ", tokens";
      testing::report_equality(what, counts.compared, counts.differing);
      CHECK(counts.differing == 0);
    }
  }
}

TEST_CASE("the program prints the golden answers to questions without pictures") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/greedy");
  const GoldenAsking set(*golden);
  const json& checkpoint = set.manifest.at("model").at("checkpoints").at(0);
  const fs::path path = *golden / checkpoint.at("path").get<std::string>();
  const Specials special = specials_of(set.manifest, path);
  const fs::path model = askable(set.scratch, path, 0, checkpoint.at("vocab_size"), special);
  for (const auto& [name, entry] : set.greedy().at("cases").items()) {
    const json& tokens = set.expected.at(name).at("new_tokens");
    const std::vector<AskedRow> rows =
        set.inputs(entry).contains("image_grid_thw") || set.inputs(entry).contains("video_grid_thw")
            ? std::vector<AskedRow>{}
            : rows_of(*golden, set.inputs(entry), {}, special);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      INFO(name);
      std::string spelled;
      for (const std::int32_t id : comparable(tokens[row], entry, special).tokens)
        spelled += spelling_of(id, special);
      const testing::ProgramRun run =
          testing::run_ferro({"generate", "--model", model.string(), "--raw", "--prompt", rows[row].text,
                              "--max-new-tokens", std::to_string(entry.at("max_new_tokens").get<int>())});
      INFO(run.err);
      CHECK(run.exit_code == 0);
      const bool same = run.out.starts_with(spelled);
      CHECK_THAT(run.out, Catch::StartsWith(spelled));
      testing::report_equality(
          "generate " + name + " row " + std::to_string(row) + " as the program prints it, bytes",
          spelled.size(), same ? 0 : spelled.size());
    }
  }
}

}  // namespace
}  // namespace ferro
