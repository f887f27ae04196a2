#include "core/config.h"

#include <chrono>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/expect_error.h"
#include "tests/core/sample_config.h"
#include "tests/core/scratch_folder.h"

namespace ferro {
namespace {

testing::SampleConfig read(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "c.yaml", yaml);
  return load_config<testing::SampleConfig>(folder / "c.yaml", overrides);
}

void refused(const std::string& yaml, const std::vector<std::string>& parts,
             const std::vector<std::string>& overrides = {}) {
  INFO(yaml.substr(0, 100));
  testing::expect_error(
      ErrorCode::kConfig, [&] { read(yaml, overrides); }, parts);
}

std::string repeated(const std::string& piece, std::size_t bytes) {
  std::string text;
  text.reserve(bytes + piece.size());
  while (text.size() < bytes) text += piece;
  return text;
}

}  // namespace

TEST_CASE("keys that stand in the file are read, absent ones keep their defaults") {
  const testing::SampleConfig config = read(
      "# a comment\n"
      "name: text with spaces\n"
      "enabled: true\n"
      "small: +7\n"
      "ratio: 1\n"
      "words: [x, '1', 2]\n"
      "weights:\n  - 0.5\n  - 1e-3\n  - -2\n"
      "optimizer: {rate: .5, shape: \"linear\"}\n");
  CHECK(config.name == "text with spaces");
  CHECK(config.enabled);
  CHECK(config.small == 7);
  CHECK(config.steps == 0);
  CHECK(config.ratio == 1.0);
  CHECK(config.words == std::vector<std::string>{"x", "1", "2"});
  CHECK(config.weights == std::vector<double>{0.5, 1e-3, -2.0});
  CHECK(config.sizes == std::vector<std::int64_t>{1, 2});
  CHECK(config.optimizer.rate == 0.5);
  CHECK(config.optimizer.share == 0.5);
  CHECK(config.optimizer.shape == "linear");
}

TEST_CASE("an empty file is all defaults, a file that is not a map is refused") {
  CHECK(read("").name == "run");
  CHECK(read("# nothing\n---\n").small == 3);
  refused("- a\n", {"c.yaml:1", "expected a section", "a list"});
  refused("text\n", {"c.yaml:1", "expected a section", "`text`"});
}

TEST_CASE("an unknown key is refused with file, line, path and the nearest known key") {
  refused("name: a\nstpes: 3\n", {"c.yaml:2: stpes: unknown key", "`steps`"});
  refused("optimizer:\n  rate: 1\n  shpae: linear\n",
          {"c.yaml:3: optimizer.shpae: unknown key", "`optimizer.shape`"});
  refused("shape: linear\n", {"c.yaml:1: shape: unknown key", "`optimizer.shape`"});
  refused("raet: 1\n", {"`optimizer.rate`"});
  refused("<<: {a: 1}\n", {"<<: unknown key"});
}

TEST_CASE("a wrong type is refused with what was expected and found") {
  refused("small: many\n", {"c.yaml:1: small: expected a whole number, found `many`"});
  refused("small: 3.5\n", {"small: expected a whole number, found `3.5`"});
  refused("small: \"3\"\n", {"found the text \"3\""});
  refused("small: 99999999999\n", {"small: expected a whole number"});
  refused("steps: 99999999999999999999\n", {"at most 64 bits"});
  refused("small: 0x10\n", {"small: expected a whole number"});
  refused("small: [3]\n", {"small: expected a whole number, found a list"});
  refused("small:\n", {"small: expected a whole number, found nothing"});
  refused("enabled: yes\n", {"enabled: expected true or false, found `yes`"});
  refused("enabled: 'true'\n", {"enabled: expected true or false"});
  refused("name: [a]\n", {"name: expected text, found a list"});
  refused("name: ~\n", {"name: expected text"});
  refused("words: a\n", {"words: expected a list, such as [a, b], found `a`"});
  refused("words:\n  - a\n  - {b: c}\n", {"c.yaml:3: words: expected text, found a map"});
  refused("weights: [1, x]\n", {"weights: expected a finite number, found `x`"});
}

TEST_CASE("numbers that are not finite are refused in every spelling") {
  for (const char* text :
       {"nan", ".nan", ".NaN", "inf", ".inf", "-.inf", "-inf", "infinity", "1e999", "nan(1)"})
    refused(std::string("ratio: ") + text + "\n", {"ratio: expected a finite number"});
}

TEST_CASE("a value out of range is refused with the range") {
  refused("small: 0\n", {"c.yaml:1: small: 0 is out of range: must be from 1 to 10"});
  refused("steps: -1\n", {"steps: -1 is out of range"});
  refused("optimizer: {rate: -0.5}\n", {"optimizer.rate: -0.5 is out of range: must be at least 0"});
  refused("optimizer: {share: 1.5}\n", {"optimizer.share: 1.5 is out of range: must be from 0 to 1"});
  CHECK(read("small: 10\noptimizer: {share: 1.0}\n").small == 10);
}

TEST_CASE("a choice that does not exist is refused with those that do") {
  refused("optimizer:\n  shape: square\n",
          {"c.yaml:2: optimizer.shape: `square` is not one of cosine, linear"});
}

TEST_CASE("a key that stands twice is refused") {
  refused("name: a\nsmall: 1\nname: b\n", {"c.yaml:3: key `name` stands twice"});
  refused("optimizer: {rate: 1, rate: 2}\n", {"key `rate` stands twice"});
}

TEST_CASE("a section that is not a map is refused") {
  refused("optimizer: 3\n", {"c.yaml:1: optimizer: expected a section", "`3`"});
  refused("optimizer: [a]\n", {"optimizer: expected a section", "a list"});
  refused("optimizer:\n", {"optimizer: expected a section", "nothing"});
}

TEST_CASE("rules across fields name the key and its line") {
  refused("words: [a, b]\nweights: [1]\n", {"c.yaml:2: weights: must have one weight per word"});
  refused("optimizer:\n  shape: linear\n  rate: 2\n",
          {"c.yaml:3: optimizer.rate: must be at most 1 with linear"});
  refused("optimizer:\n  share: 0\n  rate: 0.1\nname: fast\n",
          {"c.yaml:3: optimizer.rate: must be at least 0.5"});
  refused("name: fast\n", {"c.yaml:1: optimizer.rate: must be at least 0.5"});
}

TEST_CASE("overrides win over the file, the last one over the first") {
  const testing::SampleConfig config =
      read("small: 2\noptimizer: {share: 0.1}\n",
           {"small=4", "optimizer.rate=0.75", "small=5", "words=[p, q]", "name=a = b"});
  CHECK(config.small == 5);
  CHECK(config.optimizer.rate == 0.75);
  CHECK(config.optimizer.share == 0.1);
  CHECK(config.words == std::vector<std::string>{"p", "q"});
  CHECK(config.name == "a = b");
  CHECK(read("", {"optimizer.rate=2"}).optimizer.rate == 2.0);
  CHECK(read("name: a\n", {"name="}).name.empty());
}

TEST_CASE("a wrong override is reported as the override") {
  refused("", {"--set small=0: small: 0 is out of range"}, {"small=0"});
  refused("", {"--set optimizer.rte=1: optimizer.rte: unknown key", "`optimizer.rate`"}, {"optimizer.rte=1"});
  refused("", {"--set optimiser.rate=1: optimiser: unknown key", "`optimizer`"}, {"optimiser.rate=1"});
  refused("", {"--set small.deep=1: small: expected a whole number, found a map"}, {"small.deep=1"});
  refused("small: 3\n", {"--set small.deep=1: `deep` lies below `3`"}, {"small.deep=1"});
  refused("", {"--set small", "section.key=value"}, {"small"});
  refused("", {"section.key=value"}, {"=3"});
  refused("", {"an empty name"}, {"optimizer..rate=3"});
  refused("", {"--set words=[a: not valid YAML"}, {"words=[a"});
  refused("", {"--set small=~: small: expected a whole number, found nothing"}, {"small=~"});
}

TEST_CASE("a file that is missing or a folder is an I/O error") {
  const testing::ScratchFolder folder;
  testing::expect_error(ErrorCode::kIo, [&] { load_config<testing::SampleConfig>(folder / "none.yaml", {}); },
                        {"none.yaml", "No such file"});
  testing::expect_error(ErrorCode::kIo, [&] { load_config<testing::SampleConfig>(folder.path(), {}); },
                        {"directory"});
}

TEST_CASE("YAML that does not parse is refused with line and column") {
  refused("name: a\nwords: [a, b\n", {"c.yaml:", "not valid YAML"});
  refused("name: \"open\n", {"not valid YAML"});
  refused("\tname: a\n", {"c.yaml:1:", "not valid YAML"});
  refused("a: b: c\n", {"c.yaml:1:", "not valid YAML"});
}

TEST_CASE("YAML that a configuration does not need is refused") {
  refused("name: &n a\nwords: [*n]\n", {"c.yaml:2", "aliases"});
  refused("name: !!str 3\n", {"tag"});
  refused("? [a, b]\n: 1\n", {"a key must be text, found a list"});
  refused("~: 1\n", {"a key must be text, found nothing"});
  refused("name: a\n---\nname: b\n", {"second document"});
}

TEST_CASE("hostile YAML ends in an error, soon") {
  const auto start = std::chrono::steady_clock::now();
  constexpr std::size_t kLarge = 1'000'000;
  refused(repeated("[", kLarge), {"nested deeper than 64"});
  refused(repeated("{a: ", kLarge), {"nested deeper than 64"});
  refused(repeated("- ", kLarge), {"nested deeper than 64"});
  refused("words: " + repeated("[", 65), {"nested deeper than 64"});
  refused(repeated("? ", kLarge), {"c.yaml"});
  refused(repeated("x", kLarge) + ": 1\n", {"c.yaml"});
  refused("a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", {"aliases"});
  refused(std::string("name: a\0b\n", 10) + repeated("\xff\xfe", 100), {"c.yaml"});
  refused(repeated("a: 1\n", (std::size_t{1} << 20) + 1), {"at most 1048576 bytes"});
  // A tenth of a second each is plenty; the bound only tells a linear reader from a quadratic one.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

}  // namespace ferro
