#include "data/image_processor_config.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/data/text_fixtures.h"
#include "tests/golden.h"

namespace ferro {
namespace {

ImageProcessorConfig load(const std::string& text) {
  const testing::TemporaryFolder folder;
  return ImageProcessorConfig::load(folder.write("preprocessor_config.json", text));
}

TEST_CASE("what is saved comes back to the last bit") {
  const testing::TemporaryFolder folder;
  ImageProcessorConfig config;
  config.patch_size = 12;
  config.min_pixels = 100;
  config.max_pixels = 200;
  config.image_mean = {0.1, 0.2, 1.0 / 3.0};
  config.rescale_factor = 1.0 / 127.0;
  config.forced_size = 48;
  config.standardize = true;
  config.max_decoded_pixels = 12345;
  config.save(folder.path() / "p.json");
  const ImageProcessorConfig got = ImageProcessorConfig::load(folder.path() / "p.json");
  CHECK(got.patch_size == 12);
  CHECK(got.temporal_patch_size == 2);
  CHECK(got.merge_size == 2);
  CHECK(got.min_pixels == 100);
  CHECK(got.max_pixels == 200);
  CHECK(got.image_mean == config.image_mean);
  CHECK(got.image_std == config.image_std);
  CHECK(got.rescale_factor == config.rescale_factor);
  CHECK(got.forced_size == 48);
  CHECK(got.standardize);
  CHECK(got.max_decoded_pixels == 12345);
}

TEST_CASE("pixel limits are read from both places, the plain keys winning") {
  CHECK(load(R"({"size": {"shortest_edge": 10, "longest_edge": 20}})").max_pixels == 20);
  CHECK(load(R"({"size": {"min_pixels": 10, "max_pixels": 20}})").min_pixels == 10);
  CHECK(load(R"({"min_pixels": 7, "max_pixels": 9.0})").max_pixels == 9);
  const auto both =
      load(R"({"min_pixels": null, "max_pixels": 30, "size": {"shortest_edge": 10, "longest_edge": 20}})");
  CHECK(both.min_pixels == 10);
  CHECK(both.max_pixels == 30);
  CHECK(load("{}").max_pixels == 12845056);
  CHECK_FALSE(load("{}").standardize);
}

TEST_CASE("a wrong value is an error that names its key") {
  for (const std::string text : {R"({"patch_size": "14"})", R"({"patch_size": 0})", R"({"patch_size": 1.5})",
                                 R"({"patch_size": 1e300})", R"({"patch_size": -3})"}) {
    CHECK_THROWS_WITH(load(text), Catch::Contains("patch_size"));
  }
  CHECK_THROWS_WITH(load(R"({"image_std": [1, 0, 1]})"), Catch::Contains("image_std"));
  CHECK_THROWS_WITH(load(R"({"image_mean": [1, 2]})"), Catch::Contains("image_mean"));
  CHECK_THROWS_WITH(load(R"({"size": 5})"), Catch::Contains("size"));
  CHECK_THROWS_WITH(load(R"({"min_pixels": 9, "max_pixels": 8})"), Catch::Contains("min_pixels"));
  CHECK_THROWS_WITH(load(R"({"do_normalize": false})"), Catch::Contains("do_normalize"));
  CHECK_THROWS_WITH(load(R"({"ferro_standardize": 1})"), Catch::Contains("ferro_standardize"));
}

TEST_CASE("a damaged file is an error, never a crash") {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{\"a\""), std::string(100000, '['),
        std::string(10, '\0'), std::string("{\"a\": \"\xFF\"}")}) {
    CHECK_THROWS_AS(load(text), Error);
  }
}

constexpr const char* kNested = R"({"image_processor": {"patch_size": 12, "size": {"shortest_edge": 576,
  "longest_edge": 2304}, "ferro_standardize": true}, "processor_class": "Qwen2_5_VLProcessor",
  "video_processor": {"patch_size": 7, "size": {"longest_edge": 99}}})";

TEST_CASE("a folder whose image processor is nested in processor_config.json is read from there") {
  const testing::TemporaryFolder folder;
  CHECK_FALSE(find_image_processor(folder.path()));
  folder.write("processor_config.json", kNested);
  const auto found = find_image_processor(folder.path());
  REQUIRE(found);
  CHECK(found->file == folder.path() / "processor_config.json");
  CHECK(found->config.patch_size == 12);
  CHECK(found->config.min_pixels == 576);
  CHECK(found->config.max_pixels == 2304);
  CHECK(found->config.standardize);
}

TEST_CASE("of two files the nested image processor wins whole, and one without it gives way") {
  const testing::TemporaryFolder folder;
  folder.write("preprocessor_config.json", R"({"patch_size": 16, "merge_size": 4, "max_pixels": 34560})");
  folder.write("processor_config.json", kNested);
  const auto nested = find_image_processor(folder.path());
  REQUIRE(nested);
  CHECK(nested->config.max_pixels == 2304);
  // Not named in the nested object: the default, not the other file's 4.
  CHECK(nested->config.merge_size == 2);
  for (const char* text : {R"({"processor_class": "Qwen2_5_VLProcessor", "patch_size": 3})",
                           R"({"image_processor": null})", R"({"video_processor": {"patch_size": 7}})"}) {
    folder.write("processor_config.json", text);
    const auto flat = find_image_processor(folder.path());
    REQUIRE(flat);
    CHECK(flat->file == folder.path() / "preprocessor_config.json");
    CHECK(flat->config.patch_size == 16);
    CHECK(flat->config.max_pixels == 34560);
  }
}

TEST_CASE(
    "a damaged processor_config.json is an error that says what is wrong, beside a whole other file too") {
  const testing::TemporaryFolder folder;
  folder.write("preprocessor_config.json", "{}");
  const auto refuses = [&](const std::string& text, const std::string& what) {
    folder.write("processor_config.json", text);
    CHECK_THROWS_WITH(find_image_processor(folder.path()),
                      Catch::Contains("processor_config.json") && Catch::Contains(what));
  };
  refuses("", "not valid JSON");
  refuses("[]", "not a JSON object");
  refuses(std::string(100000, '['), "nested more than 16 levels deep");
  refuses(R"({"image_processor": 5})", "`image_processor` is not an object");
  refuses(R"({"image_processor": [{}]})", "`image_processor` is not an object");
  refuses(R"({"image_processor": {"patch_size": 0}})", "`image_processor.patch_size`");
  refuses(R"({"image_processor": {"do_resize": false}})", "`image_processor.do_resize`");
  refuses(R"({"image_processor": {"size": [1, 2]}})", "`image_processor.size`");
}

TEST_CASE("the published file's values are the defaults") {
  const auto folder = testing::tokenizer_dir();
  FERRO_SKIP_UNLESS(folder, "the Qwen2.5-VL tokenizer folder");
  const ImageProcessorConfig got = ImageProcessorConfig::load(*folder / "preprocessor_config.json");
  const ImageProcessorConfig defaults;
  CHECK(got.image_mean == defaults.image_mean);
  CHECK(got.image_std == defaults.image_std);
  CHECK(got.max_pixels == defaults.max_pixels);
  CHECK(got.forced_size == 0);
}

}  // namespace
}  // namespace ferro
