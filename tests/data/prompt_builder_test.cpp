#include "data/prompt_builder.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "data/chat_template.h"
#include "tests/data/text_fixtures.h"

namespace ferro {
namespace {

/// Gives every path the same grid; "bad" cannot be read.
class FakeLoader : public ImageLoader {
 public:
  explicit FakeLoader(GridThw grid) : grid_(grid) {}
  std::shared_ptr<const ImageInput> load(const std::filesystem::path& path,
                                         const AugmentKey* augment) override {
    if (path == "bad") throw Error(ErrorCode::kData, "bad: not an image");
    augmented = augment != nullptr;
    ImageInput input;
    input.grid = grid_;
    return std::make_shared<const ImageInput>(std::move(input));
  }
  bool augmented = false;

 private:
  GridThw grid_;
};

VisionTokens tokens_of(const Tokenizer& tokenizer) {
  return {.image_token_id = *tokenizer.id_of("<|image_pad|>"),
          .video_token_id = *tokenizer.id_of("<|video_pad|>"),
          .vision_start_token_id = *tokenizer.id_of("<|vision_start|>"),
          .vision_end_token_id = *tokenizer.id_of("<|vision_end|>")};
}

Row row_of(std::string image, std::string question, std::int64_t id = 0) {
  Row row;
  row.id = id;
  row.image_path = std::move(image);
  row.question = std::move(question);
  return row;
}

PromptOptions options_of(SystemPrompt system, std::int64_t longest = 4096) {
  PromptOptions options;
  options.system_prompt = system;
  options.max_prompt_length = longest;
  return options;
}

PromptOptions up_to(std::int64_t longest) {
  return options_of(SystemPrompt::kDefault, longest);
}

struct Bench {
  Tokenizer tokenizer = testing::small_tokenizer();
  FakeLoader loader{{1, 4, 6}};
  PromptBuilder builder(PromptOptions options = {}) {
    return PromptBuilder(tokenizer, loader, tokens_of(tokenizer), std::move(options));
  }
  std::string text_of(const Prompt& prompt) const { return tokenizer.decode(prompt.ids, false); }
};

const std::string kSixPads = [] {
  std::string pads;
  for (int i = 0; i < 6; ++i) pads += "<|image_pad|>";
  return pads;
}();

TEST_CASE("the three system prompts differ in the system turn only") {
  Bench bench;
  const Row row = row_of("a.png", "What?");
  const std::string user = "<|im_start|>user\n<|vision_start|>" + kSixPads +
                           "<|vision_end|>What?<|im_end|>\n<|im_start|>assistant\n";
  const auto text = [&](SystemPrompt system) {
    return bench.text_of(*bench.builder(options_of(system)).build(row));
  };
  CHECK(text(SystemPrompt::kNone) == user);
  CHECK(text(SystemPrompt::kEmpty) == "<|im_start|>system\n<|im_end|>\n" + user);
  CHECK(text(SystemPrompt::kDefault) ==
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + user);
}

TEST_CASE("placeholders are expanded to the merged grid, with their place and positions") {
  Bench bench;
  const auto prompt = bench.builder(options_of(SystemPrompt::kNone)).build(row_of("a.png", "Q"));
  REQUIRE(prompt->image_token_begin.size() == 1);
  const auto begin = static_cast<std::size_t>(prompt->image_token_begin[0]);
  const VisionTokens tokens = tokens_of(bench.tokenizer);
  CHECK(prompt->ids[begin - 1] == tokens.vision_start_token_id);
  CHECK(prompt->ids[begin] == tokens.image_token_id);
  CHECK(prompt->ids[begin + 5] == tokens.image_token_id);
  CHECK(prompt->ids[begin + 6] == tokens.vision_end_token_id);
  REQUIRE(prompt->positions.ids.size() == 3 * prompt->ids.size());
  // A grid of 2 x 3 merged patches takes 6 rows and 3 positions.
  CHECK(prompt->positions.next == static_cast<std::int32_t>(prompt->ids.size()) - 3);
}

TEST_CASE("a row without an image is a text prompt, and the override replaces the question") {
  Bench bench;
  PromptOptions options = options_of(SystemPrompt::kNone);
  options.question_override = "Name it.";
  const auto prompt = bench.builder(options).build(row_of("", "a long question"));
  CHECK(bench.text_of(*prompt) == "<|im_start|>user\nName it.<|im_end|>\n<|im_start|>assistant\n");
  CHECK(prompt->images.empty());
}

TEST_CASE("errors say what is wrong with the row") {
  Bench bench;
  CHECK_THROWS_WITH(bench.builder().build(row_of("bad", "", 17)), Catch::Contains("not an image"));
  CHECK_THROWS_WITH(bench.builder(up_to(8)).build(row_of("a", "", 18)), Catch::Contains("max_prompt_length"));
}

TEST_CASE("a prompt of exactly the longest length is taken") {
  Bench bench;
  const Row row = row_of("a.png", "Q");
  const auto length = static_cast<std::int64_t>(bench.builder().build(row)->ids.size());
  CHECK_NOTHROW(bench.builder(up_to(length)).build(row));
  CHECK_THROWS_AS(bench.builder(up_to(length - 1)).build(row), Error);
}

TEST_CASE("a placeholder written into a question is refused, not taken for an image") {
  Bench bench;
  CHECK_THROWS_AS(bench.builder().build(row_of("a", "x <|image_pad|>")), Error);
  CHECK_THROWS_AS(bench.builder().build(row_of("", "x <|image_pad|>")), Error);
}

TEST_CASE("several images and a video stand before the question, in order") {
  Bench bench;
  ImageInput image, video;
  image.grid = {1, 2, 2};
  video.grid = {2, 2, 4};
  video.video = true;
  const PromptBuilder::Media media{std::make_shared<const ImageInput>(image),
                                   std::make_shared<const ImageInput>(video)};
  const auto prompt = bench.builder(options_of(SystemPrompt::kNone)).ask("Q", media);
  CHECK(bench.text_of(*prompt) ==
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|video_pad|><|video_"
        "pad|>"
        "<|video_pad|><|video_pad|><|vision_end|>Q<|im_end|>\n<|im_start|>assistant\n");
  CHECK(prompt->images == media);
  CHECK_THROWS_WITH(
      bench.builder(up_to(9)).ask("Q", media),
      Catch::Contains("5 of them from 2 images or videos") && Catch::Contains("max_prompt_length is 9"));
}

TEST_CASE("an answer ends with the end of turn, and augmentation reaches the loader") {
  Bench bench;
  const auto ids = bench.builder().encode_answer("fear");
  CHECK(ids.back() == *bench.tokenizer.id_of("<|im_end|>"));
  CHECK(bench.tokenizer.decode(ids, true) == "fear");
  const AugmentKey key;
  bench.builder().build(row_of("a", ""), &key);
  CHECK(bench.loader.augmented);
}

TEST_CASE("a tokenizer and a model with other ids do not go together") {
  Bench bench;
  VisionTokens tokens = tokens_of(bench.tokenizer);
  ++tokens.image_token_id;
  CHECK_THROWS_WITH(PromptBuilder(bench.tokenizer, bench.loader, tokens, {}),
                    Catch::Contains("<|image_pad|>"));
}

TEST_CASE("an empty conversation renders to nothing but the generation prompt") {
  CHECK(render_chat({}, false).empty());
  CHECK(render_chat({}, true) == "<|im_start|>assistant\n");
}

}  // namespace
}  // namespace ferro
