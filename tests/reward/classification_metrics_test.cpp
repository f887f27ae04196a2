#include "reward/classification_metrics.h"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {

TEST_CASE("precision, recall and F1 are macro averages over true and predicted labels") {
  const std::vector<std::string> truth{"sad", "sad", "fear", "fear", "happy"};
  const std::vector<std::string> predicted{"sad", "fear", "fear", "unknown", "happy"};
  const ClassificationReport report = classification_report(truth, predicted);
  // Per class (fear, happy, sad, unknown): precision 1/2 1 1 0, recall 1/2 1 1/2 0, F1 1/2 1 2/3 0.
  CHECK(report.count == 5);
  CHECK(report.accuracy == Approx(3.0 / 5));
  CHECK(report.macro_precision == Approx(2.5 / 4));
  CHECK(report.macro_recall == Approx(2.0 / 4));
  CHECK(report.macro_f1 == Approx((0.5 + 1 + 2.0 / 3) / 4));
  REQUIRE(report.classes.size() == 4);
  CHECK(report.classes[0].label == "fear");
  CHECK(report.classes[2].f1 == Approx(2.0 / 3));
  CHECK(report.classes[2].support == 2);
  CHECK(report.classes[3].label == "unknown");
  CHECK(report.classes[3].support == 0);
  CHECK(report.confusion_labels == std::vector<std::string>{"fear", "happy", "sad"});
  CHECK(report.confusion == std::vector<std::vector<std::int64_t>>{{1, 0, 0}, {0, 1, 0}, {1, 0, 1}});
}

TEST_CASE("a report of nothing is all zeros") {
  const ClassificationReport report = classification_report({}, {});
  CHECK(report.count == 0);
  CHECK(report.accuracy == 0);
  CHECK(report.macro_f1 == 0);
  CHECK(report.classes.empty());
}

TEST_CASE("as many predictions as true labels are asked for") {
  const std::vector<std::string> one{"sad"};
  CHECK_THROWS_AS(classification_report(one, {}), Error);
}

}  // namespace ferro
