#include "data/face_labels.h"

#include <set>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/csv_rows.h"
#include "tests/data/text_fixtures.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::TemporaryFolder;
using Fields = std::vector<std::string>;

std::vector<Fields> records_of(const std::string& text) {
  CsvScanner scanner(text, "x.csv");
  std::vector<Fields> records;
  while (const auto record = scanner.next()) records.push_back(record->fields);
  return records;
}

TEST_CASE("quotes, doubled quotes, line breaks in quotes and both line ends") {
  CHECK(records_of("a,b\n1,2\n") == std::vector<Fields>{{"a", "b"}, {"1", "2"}});
  CHECK(records_of("\xEF\xBB\xBF"
                   "a,b\r\n\r\n1,\r\n") == std::vector<Fields>{{"a", "b"}, {"1", ""}});
  CHECK(records_of("\"a,\"\"b\"\"\nc\",d") == std::vector<Fields>{{"a,\"b\"\nc", "d"}});
  CHECK(records_of("\"a\"\r\n\"b\"\r\n") == std::vector<Fields>{{"a"}, {"b"}});
  CHECK(records_of(",\n,") == std::vector<Fields>{{"", ""}, {"", ""}});
  CHECK(records_of("").empty());
  CHECK(records_of("\n\r\n").empty());
}

TEST_CASE("broken quotes are errors that name the line") {
  CHECK_THROWS_WITH(records_of("a\nb,\"c\nd"), Catch::Contains("line 2"));
  CHECK_THROWS_WITH(records_of("a\n\"b\"c"), Catch::Contains("line 2"));
  CHECK_THROWS_AS(records_of("\"b\"\rc"), Error);
  CHECK_THROWS_AS(records_of("\""), Error);
}

TEST_CASE("a record knows its line, after line breaks in quotes too") {
  CsvScanner scanner("h\n\"a\nb\"\nc\n", "x.csv");
  CHECK(scanner.next()->line == 1);
  CHECK(scanner.next()->line == 2);
  CHECK(scanner.next()->line == 4);
}

struct LabelledFolder {
  TemporaryFolder folder;
  FaceLabelsOptions options;
  explicit LabelledFolder(const std::string& csv = "") {
    for (const char* name : {"a.png", "b.png", "c.png"}) folder.write(name, "x");
    if (!csv.empty()) folder.write("labels.csv", csv);
    options.input = folder.path();
    options.output = folder.path() / "out";
  }
  json read(const std::string& name) const { return testing::read_json(options.output / name); }
};

TEST_CASE("a CSV becomes both files of each split in the published schema") {
  LabelledFolder bench("file,label,split\na.png,happiness,train\nb.png,neutral,test\n");
  const FaceLabelsReport report = write_face_labels(bench.options);
  CHECK(report.set_aside.empty());
  CHECK(report.image_root == bench.folder.path());
  const json sft = bench.read("sft_train.json");
  REQUIRE(sft.size() == 1);
  CHECK(sft[0]["image_path"] == "a.png");
  CHECK(sft[0]["question"] == bench.options.question);
  CHECK_THAT(sft[0]["response"].get<std::string>(),
             Catch::StartsWith("<think>") && Catch::Contains("(AU6)") && Catch::Contains("(AU12)") &&
                 Catch::EndsWith("</think><answer>happiness</answer>"));
  CHECK(
      bench.read("rl_test.json") ==
      json::array({{{"image_path", "b.png"}, {"problem", bench.options.question}, {"solution", "neutral"}}}));
  const Dataset rows = read_dataset(bench.options.output / "sft_train.json", RowKind::kSft,
                                    {.image_root = report.image_root, .require_images = true, .max_rows = 0});
  CHECK(rows.rows.size() == 1);
}

TEST_CASE("answers can be the label alone, in which case any word may be one") {
  LabelledFolder bench("path,label\na.png,bored\n");
  bench.options.answer = AnswerStyle::kLabel;
  write_face_labels(bench.options);
  CHECK(bench.read("sft_train.json")[0]["response"] == "<answer>bored</answer>");
}

TEST_CASE("class folders give split and label, or label alone") {
  LabelledFolder bench;
  for (const char* name :
       {"valid/anger/1.png", "valid/anger/2.JPG", "sad/3.png", "happy/notes.txt", "w/x/y/4.png"}) {
    bench.folder.write(std::string("faces/") + name, "x");
  }
  bench.options.input = bench.folder.path() / "faces";
  const FaceLabelsReport report = write_face_labels(bench.options);
  CHECK(report.splits.at("valid").rows == 2);
  CHECK(report.splits.at("train").rows_of_label.at("sad") == 1);
  REQUIRE(report.set_aside.size() == 1);
  CHECK(report.set_aside[0].reason == "unexpected_place");
  CHECK(bench.read("rl_valid.json")[1]["image_path"] == "valid/anger/2.JPG");
}

const std::string kVotes =
    "path,label,split,votes_fear,votes_surprise,votes_unknown,votes_NF\n"
    "a.png,fear,train,3,1,50,50\nb.png,fear,test,3,1,0,0\nc.png,fear,train,0,0,5,5\n";

TEST_CASE("drawn labels follow the votes, on the splits named alone") {
  LabelledFolder bench(kVotes);
  bench.options.copies = 1000;
  const FaceLabelsReport report = write_face_labels(bench.options);
  const auto& train = report.splits.at("train");
  CHECK(train.faces == 1);
  CHECK(train.rows == 1000);
  // Binomial(1000, 3/4): standard deviation 13.7; five of them.
  CHECK(std::abs(static_cast<double>(train.rows_of_label.at("fear")) - 750.0) < 69.0);
  CHECK(train.rows_of_label.size() == 2);
  CHECK(report.splits.at("test").rows == 1);
  REQUIRE(report.set_aside.size() == 1);
  CHECK(report.set_aside[0].reason == "no_votes");
  CHECK(report.set_aside[0].row == 2);
  const json sft = bench.read("sft_train.json"), rl = bench.read("rl_train.json");
  for (std::size_t i = 0; i < rl.size(); ++i) {
    const std::string label = rl[i]["solution"];
    CHECK_THAT(sft[i]["response"].get<std::string>(), Catch::EndsWith("<answer>" + label + "</answer>"));
  }
}

TEST_CASE("without copies the label column counts and the seed decides the wording") {
  LabelledFolder bench(kVotes);
  CHECK(write_face_labels(bench.options).splits.at("train").rows == 2);
  const std::string first = read_file(bench.options.output / "sft_train.json");
  write_face_labels(bench.options);
  CHECK(read_file(bench.options.output / "sft_train.json") == first);
  std::set<std::string> seen{first};
  for (bench.options.seed = 2; bench.options.seed < 8; ++bench.options.seed) {
    write_face_labels(bench.options);
    seen.insert(read_file(bench.options.output / "sft_train.json"));
  }
  CHECK(seen.size() > 2);
}

TEST_CASE("faces that cannot be used are set aside with a reason") {
  LabelledFolder bench(
      "path,label,split,votes_fear\na.png,fear,train,1\nnone.png,fear,train,1\na.png,,train,1\na.png,bored,"
      "train,1\n"
      "a.png,fear,../up,1\na.png,fear,,1\na.png,fear,train\na.png,fear,train,-1\na.png,fear,train,1.5\n"
      "a.png,fear,train,99999999999999999999\n/"
      "a.png,fear,train,1\na.png,\xFF,train,1\n,fear,train,1\n.,fear,train,1\n");
  const FaceLabelsReport report = write_face_labels(bench.options);
  std::map<std::int64_t, std::string> reasons;
  for (const SetAsideRow& row : report.set_aside) reasons[row.row] = row.reason;
  CHECK(reasons == std::map<std::int64_t, std::string>{{1, "image_missing"},
                                                       {2, "empty_label"},
                                                       {3, "unknown_label"},
                                                       {4, "bad_split"},
                                                       {5, "bad_split"},
                                                       {6, "wrong_field_count"},
                                                       {7, "bad_votes"},
                                                       {8, "bad_votes"},
                                                       {9, "bad_votes"},
                                                       {10, "image_missing"},
                                                       {11, "not_utf8"},
                                                       {12, "image_missing"},
                                                       {13, "image_missing"}});
  CHECK(report.splits.at("train").rows == 1);
}

TEST_CASE("an absolute path in a CSV is no path under the image root") {
  LabelledFolder bench;
  const std::string absolute = (bench.folder.path() / "a.png").string();
  bench.folder.write("labels.csv", "path,label\n" + absolute + ",fear\nb.png,fear\n");
  const FaceLabelsReport report = write_face_labels(bench.options);
  REQUIRE(report.set_aside.size() == 1);
  CHECK(report.set_aside[0].reason == "image_missing");
}

TEST_CASE("sources that hold nothing usable are errors") {
  const auto error_code = [](const LabelledFolder& bench) {
    try {
      write_face_labels(bench.options);
    } catch (const Error& error) {
      return error.exit_code();
    }
    return 0;
  };
  const int data = static_cast<int>(ErrorCode::kData);
  CHECK(error_code(LabelledFolder("")) == data);
  CHECK(error_code(LabelledFolder("\n")) == data);
  CHECK(error_code(LabelledFolder("path,name\na.png,x\n")) == data);
  CHECK(error_code(LabelledFolder("path,label\nnone.png,fear\n")) == data);
  CHECK(error_code(LabelledFolder(std::string(1000, '\0'))) == data);
  LabelledFolder copies("path,label\na.png,fear\n");
  copies.options.copies = 2;
  CHECK(error_code(copies) == data);
  copies.options.copies = -1;
  CHECK(error_code(copies) == static_cast<int>(ErrorCode::kUsage));
  LabelledFolder missing;
  missing.options.input = missing.folder.path() / "nowhere";
  CHECK(error_code(missing) == static_cast<int>(ErrorCode::kIo));
}

TEST_CASE("the FER+ faces become rows, every one") {
  const auto faces = testing::faces_dir();
  FERRO_SKIP_UNLESS(faces, "the FER+ folder");
  const TemporaryFolder folder;
  FaceLabelsOptions options;
  options.input = *faces / "labels.csv";
  options.output = folder.path();
  const FaceLabelsReport report = write_face_labels(options);
  const std::string csv = read_file(*faces / "labels.csv");
  std::int64_t rows = 0;
  for (const auto& [name, split] : report.splits) rows += split.rows;
  CHECK(report.set_aside.empty());
  CHECK(rows == std::count(csv.begin(), csv.end(), '\n') - 1);
}

}  // namespace
}  // namespace ferro
