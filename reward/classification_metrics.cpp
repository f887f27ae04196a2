#include "reward/classification_metrics.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>

#include "core/error.h"

namespace ferro {
namespace {

double ratio(double numerator, double denominator) {
  return denominator == 0 ? 0 : numerator / denominator;
}

struct Counts {
  std::int64_t hits = 0, truths = 0, predictions = 0;
};

ClassMetrics metrics_of(const std::string& label, const Counts& counts) {
  ClassMetrics metrics;
  metrics.label = label;
  const auto hits = static_cast<double>(counts.hits);
  metrics.precision = ratio(hits, static_cast<double>(counts.predictions));
  metrics.recall = ratio(hits, static_cast<double>(counts.truths));
  metrics.f1 = ratio(2 * metrics.precision * metrics.recall, metrics.precision + metrics.recall);
  metrics.support = counts.truths;
  return metrics;
}

void fill_confusion(ClassificationReport& report, std::span<const std::string> truth,
                    std::span<const std::string> predicted) {
  const std::set<std::string> labels(truth.begin(), truth.end());
  report.confusion_labels.assign(labels.begin(), labels.end());
  std::map<std::string, std::size_t> index;
  for (const std::string& label : report.confusion_labels) index.emplace(label, index.size());
  report.confusion.assign(index.size(), std::vector<std::int64_t>(index.size(), 0));
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const auto column = index.find(predicted[i]);
    if (column != index.end()) ++report.confusion[index.at(truth[i])][column->second];
  }
}

}  // namespace

ClassificationReport classification_report(std::span<const std::string> truth,
                                           std::span<const std::string> predicted) {
  FERRO_CHECK(truth.size() == predicted.size(), "{} true labels, {} predicted", truth.size(),
              predicted.size());
  ClassificationReport report;
  report.count = static_cast<std::int64_t>(truth.size());
  std::map<std::string, Counts> counts;
  std::int64_t correct = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const bool hit = truth[i] == predicted[i];
    ++counts[predicted[i]].predictions;
    Counts& of_truth = counts[truth[i]];
    ++of_truth.truths;
    of_truth.hits += hit ? 1 : 0;
    correct += hit ? 1 : 0;
  }
  report.accuracy = ratio(static_cast<double>(correct), static_cast<double>(report.count));
  for (const auto& [label, of_label] : counts) {
    const ClassMetrics& metrics = report.classes.emplace_back(metrics_of(label, of_label));
    report.macro_precision += metrics.precision;
    report.macro_recall += metrics.recall;
    report.macro_f1 += metrics.f1;
  }
  const auto classes = static_cast<double>(counts.size());
  report.macro_precision = ratio(report.macro_precision, classes);
  report.macro_recall = ratio(report.macro_recall, classes);
  report.macro_f1 = ratio(report.macro_f1, classes);
  fill_confusion(report, truth, predicted);
  return report;
}

}  // namespace ferro
