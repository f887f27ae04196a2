#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "reward/classification_metrics.h"
#include "reward/reward_function.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using nlohmann::json;

struct FerbenchGolden {
  json entry;  ///< The manifest's.
  json file;
};

FerbenchGolden load(const std::filesystem::path& golden) {
  FerbenchGolden result;
  result.entry = testing::read_json(golden / "manifest.json").at("grpo").at("ferbench");
  result.file = testing::read_json(golden / result.entry.at("file").get<std::string>());
  return result;
}

double reward(const char* function, const std::string& completion, const std::string& solution) {
  return find_reward_function(function).judge({completion, solution, ""}).value.value();
}

struct Labels {
  std::vector<std::string> truth, predicted;
};

/// Labels of a data set's items as its own script predicts them; empty `dataset`: of all sets, pooled as
/// eval_total does.
Labels labels_of(const json& items, const std::string& dataset) {
  const std::map<std::string, std::string> pooled{
      {"angry", "anger"}, {"happy", "happiness"}, {"sad", "sadness"}};
  Labels labels;
  for (const json& item : items) {
    if (item.value("error", false)) continue;
    std::string truth = item.at("true_label"), predicted = item.at("predicted");
    if (dataset.empty()) {
      if (const auto name = pooled.find(truth); name != pooled.end()) truth = name->second;
      if (const auto name = pooled.find(predicted); name != pooled.end()) predicted = name->second;
    } else {
      if (item.at("dataset") != dataset) continue;
      predicted = item.value("predicted_by_single_dataset_script", predicted);
    }
    labels.truth.push_back(truth);
    labels.predicted.push_back(predicted);
  }
  return labels;
}

double worst_difference(const ClassificationReport& report, const json& expected) {
  const json& overall = expected.at("overall");
  double worst = 0;
  const auto compare = [&](double ours, double theirs) {
    worst = testing::worse_of(worst, std::abs(ours - theirs));
  };
  compare(report.accuracy, overall.at("accuracy"));
  compare(report.macro_precision, overall.at("precision"));
  compare(report.macro_recall, overall.at("recall"));
  compare(report.macro_f1, overall.at("f1"));
  for (const json& row : expected.at("per_class")) {
    const std::string label = row.at("emotion");
    const auto ours = std::find_if(report.classes.begin(), report.classes.end(),
                                   [&](const ClassMetrics& c) { return c.label == label; });
    REQUIRE(ours != report.classes.end());
    compare(ours->precision, row.at("precision"));
    compare(ours->recall, row.at("recall"));
    compare(ours->f1, row.at("f1"));
    compare(static_cast<double>(ours->support), row.at("support"));
  }
  return worst;
}

/// `order`: the labels of the expected matrix's rows and columns.
void check_confusion(const ClassificationReport& report, const json& expected,
                     const std::vector<std::string>& order) {
  const auto place = [&](const std::string& label) {
    return std::find(report.confusion_labels.begin(), report.confusion_labels.end(), label) -
           report.confusion_labels.begin();
  };
  const json& matrix = expected.at("confusion_matrix");
  REQUIRE(matrix.size() == order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (std::size_t j = 0; j < order.size(); ++j) {
      const auto row = static_cast<std::size_t>(place(order[i])),
                 column = static_cast<std::size_t>(place(order[j]));
      const bool known = row < report.confusion.size() && column < report.confusion.size();
      CHECK((known ? report.confusion[row][column] : 0) == matrix[i][j].get<std::int64_t>());
    }
  }
}

}  // namespace

TEST_CASE("labels and rewards of every golden response are the published evaluator's") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/ferbench");
  const FerbenchGolden ferbench = load(*golden);
  const json& items = ferbench.file.at("items");
  REQUIRE(items.size() == ferbench.entry.at("items").get<std::size_t>());
  int mismatches = 0;
  for (const json& item : items) {
    const std::string dataset = item.at("dataset"), response = item.at("model_response"),
                      truth = item.at("true_label");
    const auto candidates = ferbench.file.at("candidate_labels").at(dataset).get<std::vector<std::string>>();
    INFO(item.dump());
    const std::string label = extract_label(response, candidates, dataset);
    const double tagged = reward("accuracy", response, "<answer>" + truth + "</answer>");
    const double plain = reward("accuracy", response, truth);
    const double format = reward("format", response, truth);
    CHECK(label == item.at("predicted").get<std::string>());
    CHECK(tagged == item.at("reward_accuracy").get<double>());
    CHECK(plain == item.at("reward_accuracy_plain_solution").get<double>());
    CHECK(format == item.at("reward_format").get<double>());
    mismatches += label != item.at("predicted") || tagged != item.at("reward_accuracy") ||
                          plain != item.at("reward_accuracy_plain_solution") ||
                          format != item.at("reward_format")
                      ? 1
                      : 0;
  }
  testing::report_equality("ferbench labels and rewards of responses", items.size(),
                           static_cast<std::size_t>(mismatches));
}

TEST_CASE("metrics of every golden data set and of all pooled are the published evaluator's") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/ferbench");
  const FerbenchGolden ferbench = load(*golden);
  const double tolerance = ferbench.entry.at("tolerances").at("metrics").at("abs");
  const json& items = ferbench.file.at("items");
  const auto check = [&](const std::string& dataset, const json& expected,
                         const std::vector<std::string>& order) {
    const Labels labels = labels_of(items, dataset);
    const ClassificationReport report = classification_report(labels.truth, labels.predicted);
    const json& counts = expected.at("counts");
    CHECK(report.count == counts.at("valid").get<std::int64_t>());
    CHECK(std::count(labels.predicted.begin(), labels.predicted.end(), "unknown") ==
          counts.at("unknown").get<std::int64_t>());
    const double worst = worst_difference(report, expected);
    CHECK(worst <= tolerance);
    check_confusion(report, expected, order);
    testing::report_difference("ferbench metrics " + (dataset.empty() ? "pooled" : dataset), worst,
                               tolerance);
  };
  for (const auto& [dataset, expected] : ferbench.file.at("metrics").items()) {
    check(dataset, expected,
          ferbench.file.at("candidate_labels").at(dataset).get<std::vector<std::string>>());
  }
  const json& total = ferbench.file.at("metrics_total");
  check("", total, ferbench.file.at("metrics_total_labels").get<std::vector<std::string>>());
}

}  // namespace ferro
