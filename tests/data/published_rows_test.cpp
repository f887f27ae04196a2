// Rows in the published schemas, from the file to what the model takes: messages, template, ids, pixels.

#include <map>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/dataset_reader.h"
#include "data/image/image_processor.h"
#include "data/prompt_builder.h"
#include "tests/data/image_encoders.h"
#include "tests/data/text_fixtures.h"
#include "tests/golden.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A grey picture whose levels depend on its number, as a file.
void write_picture(const fs::path& path, std::uint32_t height, std::uint32_t width, std::size_t number) {
  testing::Bytes rows;
  for (std::size_t i = 0; i < std::size_t{height} * width; ++i)
    rows.push_back(static_cast<std::uint8_t>(i * 7 + number * 31));
  const testing::Bytes png =
      testing::make_png({.width = width, .height = height, .depth = 8, .colour_type = 0, .rows = rows});
  create_folders(path.parent_path());
  write_file_atomically(path, {reinterpret_cast<const char*>(png.data()), png.size()});
}

VisionTokens tokens_of(const Tokenizer& tokenizer) {
  return {.image_token_id = tokenizer.id_of("<|image_pad|>").value(),
          .video_token_id = tokenizer.id_of("<|video_pad|>").value(),
          .vision_start_token_id = tokenizer.id_of("<|vision_start|>").value(),
          .vision_end_token_id = tokenizer.id_of("<|vision_end|>").value()};
}

/// Faces as they are published: small grey ones, portraits, a wide one.
constexpr std::array<std::pair<std::uint32_t, std::uint32_t>, 4> kSizes{
    {{48, 48}, {100, 75}, {120, 200}, {31, 90}}};

/// The picture's tokens stand where the template has its one placeholder, and everything else is the row's.
void check_prompt(const Prompt& prompt, const Row& row, const Tokenizer& tokenizer,
                  const ImageProcessorConfig& config) {
  REQUIRE(prompt.images.size() == 1);
  const std::string file = read_file(row.image_path);
  const ImageInput expected = process_picture(decode_image(std::as_bytes(std::span(file.data(), file.size())),
                                                           config.max_decoded_pixels, row.image_path),
                                              config);
  const ImageInput& got = *prompt.images[0];
  CHECK(got.grid == expected.grid);
  CHECK(got.pixel_values == expected.pixel_values);
  std::string text =
      "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>";
  for (std::int64_t i = 0; i < expected.grid.patches() / 4; ++i) text += "<|image_pad|>";
  text += "<|vision_end|>" + row.question + "<|im_end|>\n<|im_start|>assistant\n";
  CHECK(prompt.ids == tokenizer.encode(text));
  CHECK(prompt.positions.ids.size() == 3 * prompt.ids.size());
}

/// Builds and checks the prompts of all rows; returns how many.
std::size_t check_rows(const std::vector<Row>& rows, const Tokenizer& tokenizer,
                       const ImageProcessorConfig& config) {
  const auto loader = make_image_loader(config, AugmentConfig{}, 2);
  const PromptBuilder builder(tokenizer, *loader, tokens_of(tokenizer), PromptOptions{});
  for (const Row& row : rows) {
    INFO("row " << row.id << " " << row.image_path);
    check_prompt(*builder.build(row), row, tokenizer, config);
  }
  return rows.size();
}

/// The published run's two ways to size a picture: a forced square, and pixel limits alone.
std::vector<ImageProcessorConfig> configs() {
  ImageProcessorConfig forced, limits;
  forced.forced_size = 112;
  limits.min_pixels = 56 * 56;
  limits.max_pixels = 112 * 112;
  return {forced, limits};
}

TEST_CASE("rows of each published kind become the prompt and pixels they describe") {
  const testing::TemporaryFolder folder;
  const Tokenizer tokenizer = testing::small_tokenizer();
  for (std::size_t i = 0; i < kSizes.size(); ++i)
    write_picture(folder.path() / "faces" / (std::to_string(i) + ".png"), kSizes[i].first, kSizes[i].second,
                  i);
  const std::map<RowKind, std::pair<const char*, json>> kinds{
      {RowKind::kSft,
       {"question", {{"response", "<think>The lip corners rise.</think><answer>happy</answer>"}}}},
      {RowKind::kRl, {"problem", {{"solution", "<answer>happy</answer>"}}}},
      {RowKind::kBenchmark, {"prompt", {{"true_label", "happy"}, {"candidate_labels", {"happy", "sad"}}}}}};
  for (const auto& [kind, fields] : kinds) {
    json array = json::array();
    std::string lines;
    for (std::size_t i = 0; i < kSizes.size(); ++i) {
      json row = fields.second;
      row["image_path"] = "/faces/" + std::to_string(i) + ".png";
      row[fields.first] = "Which expression is it, \"\xC3\xA9\"?\nAnswer " + std::to_string(i) + ".";
      lines += row.dump() + "\n";
      array.push_back(row);
    }
    for (const std::string& content : {array.dump(1), lines}) {
      const fs::path file = folder.write("rows.json", content);
      CHECK(detect_row_kind(file) == kind);
      const Dataset dataset = read_dataset(file, kind);
      CHECK(dataset.set_aside.empty());
      for (const ImageProcessorConfig& config : configs())
        CHECK(check_rows(dataset.rows, tokenizer, config) == kSizes.size());
    }
  }
}

TEST_CASE("FERBench's questions become prompts by the Qwen2.5-VL tokenizer") {
  const auto questions = testing::ferbench_dir(), qwen = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS(questions, "the FERBench folder");
  FERRO_SKIP_UNLESS(qwen, "the Qwen2.5-VL tokenizer folder");
  const Tokenizer tokenizer = Tokenizer::load(*qwen);
  constexpr std::size_t kRowsOfEach = 12;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(*questions)) {
    if (entry.path().extension() != ".json") continue;
    INFO(entry.path());
    const testing::TemporaryFolder images;
    // The faces are not published with the questions: others take their places.
    Dataset dataset = read_dataset(entry.path(), detect_row_kind(entry.path()),
                                   {.image_root = images.path(), .require_images = false, .max_rows = 0});
    const std::size_t step = std::max<std::size_t>(1, dataset.rows.size() / kRowsOfEach);
    std::vector<Row> chosen;
    for (std::size_t i = 0; i < dataset.rows.size(); i += step) {
      const auto [height, width] = kSizes[chosen.size() % kSizes.size()];
      write_picture(dataset.rows[i].image_path, height, width, i);
      chosen.push_back(dataset.rows[i]);
    }
    for (const ImageProcessorConfig& config : configs())
      CHECK(check_rows(chosen, tokenizer, config) >= kRowsOfEach);
    ++files;
  }
  CHECK(files > 0);
}

TEST_CASE("a prompt that would lose image tokens to a cut is refused, saying by how much") {
  const testing::TemporaryFolder folder;
  const Tokenizer tokenizer = testing::small_tokenizer();
  write_picture(folder.path() / "a.png", 112, 112, 0);
  Row row;
  row.image_path = (folder.path() / "a.png").string();
  row.question = "Which?";
  ImageProcessorConfig config;
  config.min_pixels = config.max_pixels = 112 * 112;  // 16 tokens.
  const auto loader = make_image_loader(config, AugmentConfig{}, 0);
  PromptOptions options;
  const auto whole = PromptBuilder(tokenizer, *loader, tokens_of(tokenizer), options).build(row);
  options.max_prompt_length = static_cast<std::int64_t>(whole->ids.size()) - 1;
  const PromptBuilder shorter(tokenizer, *loader, tokens_of(tokenizer), options);
  try {
    shorter.build(row);
    FAIL("a prompt was cut");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kData);
    CHECK_THAT(error.what(), Catch::Contains("max_prompt_length") &&
                                 Catch::Contains(std::to_string(options.max_prompt_length)));
  }
}

}  // namespace
}  // namespace ferro
