#include "data/dataset_reader.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/checksum.h"
#include "core/error.h"
#include "data/json_rows.h"
#include "tests/data/text_fixtures.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using testing::TemporaryFolder;

const std::string kGood = R"({"image_path": "/a.png", "problem": "Q?", "solution": "fear"})";

struct Rows {
  TemporaryFolder folder;
  Rows() { folder.write("a.png", "x"); }
  Dataset read(const std::string& text, RowKind kind = RowKind::kRl,
               const DatasetOptions& options = {}) const {
    return read_dataset(folder.write("rows.json", text), kind, options);
  }
  std::string error_of(const std::string& text) const {
    try {
      read(text);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kData);
      return error.what();
    }
    return "no error";
  }
};

TEST_CASE("an array and JSON lines of the same rows read alike") {
  const Rows bench;
  const std::string other =
      R"({"solution": "joy", "extra": [1, {"b": null}], "problem": "Q2 \u00e9", "image_path": "a.png"})";
  for (const std::string& text : {"[" + kGood + "," + other + "]", kGood + "\n" + other + "\n",
                                  "\xEF\xBB\xBF [ " + kGood + "\r\n,\n" + other + " ] \n", kGood + other}) {
    const Dataset got = bench.read(text);
    REQUIRE(got.rows.size() == 2);
    CHECK(got.set_aside.empty());
    CHECK(got.rows[0].id == 0);
    CHECK(got.rows[0].image_path == (bench.folder.path() / "a.png").string());
    CHECK(got.rows[0].question == "Q?");
    CHECK(got.rows[0].solution == "fear");
    CHECK(got.rows[1].id == 1);
    CHECK(got.rows[1].question == "Q2 \xC3\xA9");
    CHECK(got.sha256 == sha256_of(text));
  }
}

TEST_CASE("brackets, commas and escaped quotes inside strings are text") {
  const Rows bench;
  const Dataset got =
      bench.read(R"([{"image_path": "a.png", "problem": "\"}],[\\", "solution": "]"},)" + kGood + "]");
  REQUIRE(got.rows.size() == 2);
  CHECK(got.rows[0].question == "\"}],[\\");
  CHECK(got.rows[0].solution == "]");
}

TEST_CASE("the three kinds fill their fields") {
  const Rows bench;
  const Dataset sft =
      bench.read(R"([{"image_path": "a.png", "question": "Q", "response": "R"}])", RowKind::kSft);
  CHECK(sft.rows.at(0).question == "Q");
  CHECK(sft.rows.at(0).response == "R");
  const Dataset benchmark = bench.read(
      R"([{"image_path": "a.png", "true_label": "sad", "prompt": "P", "candidate_labels": ["sad", "happy"]}])",
      RowKind::kBenchmark);
  CHECK(benchmark.rows.at(0).solution == "sad");
  CHECK(benchmark.rows.at(0).question == "P");
  CHECK(benchmark.rows.at(0).candidate_labels == std::vector<std::string>{"sad", "happy"});
}

TEST_CASE("malformed rows are set aside with number and reason, the others keep theirs") {
  const Rows bench;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {R"({"problem": "Q", "solution": "s"})", "missing_field"},
      {R"({"image_path": "a.png", "problem": "Q"})", "missing_field"},
      {R"({"image_path": "a.png", "problem": 7, "solution": "s"})", "wrong_type"},
      {R"({"image_path": null, "problem": "Q", "solution": "s"})", "wrong_type"},
      {R"({"image_path": "", "problem": "Q", "solution": "s"})", "empty_image_path"},
      {R"({"image_path": "none.png", "problem": "Q", "solution": "s"})", "image_missing"},
      {R"({"image_path": "/", "problem": "Q", "solution": "s"})", "image_missing"},
      {R"({"image_path": "a.png\u0000b", "problem": "Q", "solution": "s"})", "image_missing"},
      {"{\"image_path\": \"a.png\", \"problem\": \"\xFF\", \"solution\": \"s\"}", "not_utf8"},
      {R"({"image_path": "a.png", "problem": "\ud800", "solution": "s"})", "bad_escape"},
      {std::string(100000, '[') + std::string(100000, ']'), "too_deep"},
      {"3", "wrong_type"},
      {"null", "wrong_type"},
      {R"("text")", "wrong_type"},
      {"[]", "wrong_type"},
      {"{}", "missing_field"}};
  std::string text = "[" + kGood;
  for (const auto& [row, reason] : bad) text += ",\n" + row;
  const Dataset got = bench.read(text + "," + kGood + "]");
  REQUIRE(got.rows.size() == 2);
  CHECK(got.rows[1].id == static_cast<std::int64_t>(bad.size()) + 1);
  REQUIRE(got.set_aside.size() == bad.size());
  for (std::size_t i = 0; i < bad.size(); ++i) {
    INFO(bad[i].first.substr(0, 100));
    CHECK(got.set_aside[i].row == static_cast<std::int64_t>(i) + 1);
    CHECK(got.set_aside[i].reason == bad[i].second);
    CHECK(got.set_aside[i].file == got.path);
  }
  CHECK(got.set_aside[0].detail == "field `image_path` is absent");
  CHECK(got.set_aside_counts().at("image_missing") == 3);
}

TEST_CASE("without required images paths are resolved and nothing is looked up") {
  const Rows bench;
  const Dataset got =
      bench.read(R"([{"image_path": "//deep/x.png", "problem": "Q", "solution": "s"},
                                     {"image_path": "", "problem": "Q", "solution": "s"}])",
                 RowKind::kRl, {.image_root = "/pictures/of/it", .require_images = false, .max_rows = 0});
  REQUIRE(got.rows.size() == 2);
  CHECK(got.rows[0].image_path == "/pictures/of/it/deep/x.png");
  CHECK(got.rows[1].image_path.empty());
}

TEST_CASE("max_rows counts usable rows and stops reading") {
  const Rows bench;
  const Dataset got = bench.read("[3," + kGood + "," + kGood + ", broken", RowKind::kRl,
                                 {.image_root = {}, .require_images = true, .max_rows = 2});
  CHECK(got.rows.size() == 2);
  CHECK(got.set_aside.size() == 1);
}

TEST_CASE("a file cut anywhere is an error that says where and after how many rows") {
  const Rows bench;
  const std::string whole = "[" + kGood + ",\n" + kGood + "]";
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const std::string message = bench.error_of(whole.substr(0, length));
    INFO(length << ": " << message);
    CHECK_THAT(message, Catch::Contains("rows.json") && Catch::Contains("byte"));
    const int rows = length <= kGood.size() ? 0 : length < whole.size() - 1 ? 1 : 2;
    CHECK_THAT(message, Catch::Contains("after " + std::to_string(rows) + " whole rows"));
  }
  const std::string lines = kGood + "\n" + kGood;
  CHECK_THAT(bench.error_of(lines.substr(0, lines.size() - 3)), Catch::Contains("after 1 whole rows"));
}

TEST_CASE("what is not JSON at all is an error with its place") {
  const Rows bench;
  CHECK_THAT(bench.error_of(""), Catch::Contains("empty"));
  CHECK_THAT(bench.error_of("  \n"), Catch::Contains("empty"));
  CHECK_THAT(bench.error_of("[]"), Catch::Contains("no rows"));
  CHECK_THAT(bench.error_of("image_path,label\n"), Catch::Contains("neither"));
  CHECK_THAT(bench.error_of(std::string(1000, '\0')), Catch::Contains("neither"));
  CHECK_THAT(bench.error_of("[" + kGood + " " + kGood + "]"), Catch::Contains("expected `,`"));
  CHECK_THAT(bench.error_of("[" + kGood + ",]"), Catch::Contains("must follow"));
  CHECK_THAT(bench.error_of("[," + kGood + "]"), Catch::Contains("expected a row"));
  CHECK_THAT(bench.error_of("[" + kGood + "] x"), Catch::Contains("follows"));
  CHECK_THAT(bench.error_of("[{]}"), Catch::Contains("unexpected"));
  CHECK_THAT(bench.error_of("[}"), Catch::Contains("unexpected"));
  CHECK_THAT(bench.error_of("[\"a\nb\"]"), Catch::Contains("control"));
  CHECK_THAT(bench.error_of("[{\"a\": nul}]"), Catch::Contains("row 0 at byte 1"));
  CHECK_THAT(bench.error_of("[{\"a\" 1}]"), Catch::Contains("row 0"));
  CHECK_THAT(bench.error_of(kGood + "\n7"), Catch::Contains("must be an object"));
  CHECK_THAT(bench.error_of(kGood + "\n{\"image_path\": \"a\n" + kGood), Catch::Contains(":2: not JSON"));
  CHECK_THAT(bench.error_of(kGood + "\n" + kGood + "\n{\"a\": 1\n" + kGood + "\n"),
             Catch::Contains(":3: not JSON") && Catch::Contains("after 2 whole rows"));
  CHECK_THAT(bench.error_of(std::string(1 << 20, '[')), Catch::Contains("truncated"));
  CHECK_THAT(bench.error_of(std::string(1 << 20, '{')), Catch::Contains("truncated"));
}

TEST_CASE("a file without one usable row is an error that counts the reasons") {
  const Rows bench;
  CHECK_THAT(bench.error_of("[{}, {}, 3]"), Catch::Contains("2 missing_field") &&
                                                Catch::Contains("1 wrong_type") && Catch::Contains("row 0"));
}

TEST_CASE("a missing file is an I/O error") {
  try {
    read_dataset("/nowhere/rows.json", RowKind::kRl);
    FAIL("read");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kIo);
  }
}

TEST_CASE("a long string is a row like any other") {
  const Rows bench;
  const std::string text =
      R"([{"image_path": "a.png", "solution": "s", "problem": ")" + std::string(8 << 20, 'q') + "\"}]";
  CHECK(bench.read(text).rows.at(0).question.size() == 8 << 20);
}

TEST_CASE("the kind is told by the fields of the first row that has them") {
  const TemporaryFolder folder;
  const auto kind_of = [&](const std::string& text) { return detect_row_kind(folder.write("r.json", text)); };
  CHECK(kind_of(kGood) == RowKind::kRl);
  CHECK(kind_of(R"([{"image_path": "", "question": "", "response": ""}])") == RowKind::kSft);
  CHECK(kind_of(R"([{"image_path": "", "true_label": "", "prompt": "", "candidate_labels": []}])") ==
        RowKind::kBenchmark);
  CHECK(kind_of(R"([3, {"image_path": 1}, {"image_path": "\u00e4", "problem": 3, "solution": ""}, )" + kGood +
                "]") == RowKind::kRl);
  CHECK(kind_of("[{\"image_path\": \"\xE4\"}, " + kGood + "]") == RowKind::kRl);
  CHECK_THROWS_WITH(kind_of(R"([{"image_path": ""}])"), Catch::Contains("of a known kind"));
  CHECK_THROWS_AS(kind_of("[]"), Error);
}

TEST_CASE("random damage to a file never does more than throw") {
  const Rows bench;
  const std::string whole = "[" + kGood + ",\n" + kGood + ",[1,{\"x\":\"\\u00e9\\n\"}]]";
  int read = 0;
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    KeyedRandom random(5, RandomPurpose::kTest, {seed});
    std::string text = whole;
    for (std::uint64_t change = 0; change <= random.below(4); ++change) {
      text[random.below(text.size())] = static_cast<char>(random.below(256));
    }
    try {
      read += bench.read(text).rows.empty() ? 0 : 1;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kData);
    }
  }
  CHECK(read > 20);
}

TEST_CASE("the FERBench files load whole") {
  const auto folder = testing::ferbench_dir();
  FERRO_SKIP_UNLESS(folder, "the FERBench folder");
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*folder)) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    CHECK(detect_row_kind(entry.path()) == RowKind::kBenchmark);
    const Dataset got = read_dataset(entry.path(), RowKind::kBenchmark,
                                     {.image_root = "/data", .require_images = false, .max_rows = 0});
    const nlohmann::json expected = testing::read_json(entry.path());
    REQUIRE(got.rows.size() == expected.size());
    CHECK(got.set_aside.empty());
    for (std::size_t i = 0; i < got.rows.size(); ++i) {
      CHECK(got.rows[i].image_path == "/data" + expected[i]["image_path"].get<std::string>());
      CHECK(got.rows[i].solution == expected[i]["true_label"].get<std::string>());
      CHECK(got.rows[i].question == expected[i]["prompt"].get<std::string>());
      CHECK(got.rows[i].candidate_labels == expected[i]["candidate_labels"].get<std::vector<std::string>>());
    }
  }
  CHECK(files > 0);
}

TEST_CASE("a row without a label to judge by or a text to learn is set aside") {
  const Rows bench;
  const Dataset rl = bench.read(R"([{"image_path": "a.png", "problem": "Q", "solution": ""},)" + kGood + "]");
  REQUIRE(rl.rows.size() == 1);
  CHECK(rl.rows[0].id == 1);
  CHECK(rl.set_aside_counts().at("empty_field") == 1);
  const Dataset sft = bench.read(R"([{"image_path": "a.png", "question": "Q", "response": ""},
                                     {"image_path": "a.png", "question": "Q", "response": "R"}])",
                                 RowKind::kSft);
  CHECK(sft.rows.size() == 1);
  CHECK(sft.set_aside.at(0).detail == "field `response` is empty");
}

}  // namespace
}  // namespace ferro
