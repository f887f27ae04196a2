#include "core/config_dump.h"

#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "core/keyed_random.h"
#include "core/yaml_reader.h"
#include "tests/core/expect_error.h"
#include "tests/core/sample_config.h"

namespace ferro {
namespace {

testing::SampleConfig read_back(const testing::SampleConfig& config) {
  testing::SampleConfig again;
  const YamlNode root = parse_yaml(dump_yaml(config), "dump");
  YamlReader(root, "").read(again);
  return again;
}

}  // namespace

TEST_CASE("the resolved dump names every key with its value") {
  CHECK(dump_yaml(testing::SampleConfig{}) ==
        "name: \"run\"\n"
        "enabled: false\n"
        "small: 3\n"
        "steps: 0\n"
        "ratio: 0.25\n"
        "words: [\"a\", \"b\"]\n"
        "weights: []\n"
        "sizes: [1, 2]\n"
        "optimizer:\n"
        "  rate: 1e-06\n"
        "  share: 0.5\n"
        "  shape: \"cosine\"\n");
}

TEST_CASE("any double reads back to the same bits") {
  testing::SampleConfig config;
  KeyedRandom random(1, RandomPurpose::kTest, {});
  const auto check = [&](double value) {
    config.ratio = value;
    const double again = read_back(config).ratio;
    INFO(value);
    REQUIRE(again == value);
    REQUIRE(std::signbit(again) == std::signbit(value));
  };
  for (const double value :
       {0.0, -0.0, 1.0, -3.0, 1e22, 1e-300, 5e-324, std::numeric_limits<double>::max(), 0.1, 1.0 / 3.0})
    check(value);
  for (int i = 0; i < 200; ++i)
    check(std::ldexp(random.uniform(-1.0, 1.0), static_cast<int>(random.below(2000)) - 1000));
  config.ratio = std::nan("");
  testing::expect_error(ErrorCode::kInternal, [&] { dump_yaml(config); }, {"nan"});
}

TEST_CASE("any text reads back the same") {
  testing::SampleConfig config;
  const auto check = [&](const std::string& value) {
    config.name = value;
    config.words = {value, "", value};
    const testing::SampleConfig again = read_back(config);
    REQUIRE(again.name == value);
    REQUIRE(again.words == config.words);
  };
  for (const char* value : {"",
                            " ",
                            "true",
                            "3",
                            "~",
                            "null",
                            "a: b",
                            "# no comment",
                            "- item",
                            "'single'",
                            "\"double\"",
                            "back\\slash",
                            "line\nbreak\n",
                            "\ttab ",
                            "{a: 1}",
                            "&anchor",
                            "*alias",
                            "!tag",
                            "%percent",
                            "@at",
                            "Gr\xc3\xbc\xc3\x9f"
                            "e \xe2\x82\xac \xf0\x9f\x98\x80",
                            "\xe2\x80\xa8 and \xc2\x85",
                            "\xef\xbb\xbf"
                            "bom",
                            "\r\n",
                            "\x7f"})
    check(value);
  for (int code = 0; code < 0x80; ++code) check(std::string("x") + static_cast<char>(code) + "y");
}

TEST_CASE("64-bit extremes read back") {
  testing::SampleConfig config;
  config.sizes = {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
  config.weights = {1.0, 2.5};
  config.enabled = true;
  const testing::SampleConfig again = read_back(config);
  CHECK(again.sizes == config.sizes);
  CHECK(again.weights == config.weights);
  CHECK(again.enabled);
}

}  // namespace ferro
