#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ferro {

struct ClassMetrics {
  std::string label;
  double precision = 0, recall = 0, f1 = 0;
  std::int64_t support = 0;
};

struct ClassificationReport {
  double accuracy = 0, macro_precision = 0, macro_recall = 0, macro_f1 = 0;
  std::vector<ClassMetrics>
      classes;  ///< Sorted union of true and predicted labels ("unknown" included); zero division = 0.
  std::vector<std::string> confusion_labels;  ///< Sorted true labels.
  std::vector<std::vector<std::int64_t>>
      confusion;  ///< [true][predicted], predictions outside the labels dropped.
  std::int64_t count = 0;
};

/// Metrics as FERBench's evaluator computes them (golden: grpo/ferbench_eval.json).
ClassificationReport classification_report(std::span<const std::string> truth,
                                           std::span<const std::string> predicted);

/// FERBench's lenient label search: first <answer>, candidates in order, whole response, then the data set's
/// synonyms; else "unknown". `dataset`: "affectnet", "ferplus", "rafdb", "sfew", each also with a suffix
/// ("sfew_2.0"); anything else: no synonyms but the common ones. A synonym counts only where its label is a
/// candidate.
std::string extract_label(std::string_view response, std::span<const std::string> candidates,
                          std::string_view dataset);

}  // namespace ferro
