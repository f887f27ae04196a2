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
