#include "launch/eval_report.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace ferro {
namespace {

std::string class_table(const ClassificationReport& report) {
  std::string text =
      fmt::format("{:<14}{:>10}{:>10}{:>10}{:>10}\n", "class", "precision", "recall", "f1", "rows");
  for (const ClassMetrics& c : report.classes)
    text += fmt::format("{:<14}{:>10.3f}{:>10.3f}{:>10.3f}{:>10}\n", c.label, c.precision, c.recall, c.f1,
                        c.support);
  return text;
}

std::string confusion_table(const ClassificationReport& report) {
  std::size_t width = 6;
  for (const std::string& label : report.confusion_labels)
    width = std::max(width, std::min<std::size_t>(label.size(), 10) + 1);
  std::string text = fmt::format("{:<14}", "true \\ said");
  for (const std::string& label : report.confusion_labels)
    text += fmt::format("{:>{}}", label.substr(0, 10), width);
  text += "\n";
  for (std::size_t i = 0; i < report.confusion.size(); ++i) {
    text += fmt::format("{:<14}", report.confusion_labels[i]);
    for (const std::int64_t count : report.confusion[i]) text += fmt::format("{:>{}}", count, width);
    text += "\n";
  }
  return text;
}

}  // namespace

std::string format_report(const EvalOutcome& outcome) {
  const ClassificationReport& r = outcome.report;
  return fmt::format(
      "rows {}, set aside {}\naccuracy {:.4f}  macro precision {:.4f}  macro recall {:.4f}  macro F1 {:.4f}\n"
      "format right {:.4f}  mean answer length {:.1f} tokens\n\n{}\n{}",
      r.count, outcome.set_aside, r.accuracy, r.macro_precision, r.macro_recall, r.macro_f1,
      outcome.format_rate, outcome.mean_completion_length, class_table(r), confusion_table(r));
}

std::string format_interval(const PairedInterval& interval, const std::string& a, const std::string& b) {
  return fmt::format(
      "{} - {} = {:+.1f} points on the same {} rows (95 % interval {:+.1f} to {:+.1f}; only {} right: {}, "
      "only {} right: {})",
      b, a, 100 * interval.difference, interval.count, 100 * interval.low, 100 * interval.high, b,
      interval.only_b, a, interval.only_a);
}

nlohmann::ordered_json report_json(const EvalOutcome& outcome) {
  const ClassificationReport& r = outcome.report;
  nlohmann::ordered_json json{{"count", r.count},
                              {"set_aside", outcome.set_aside},
                              {"accuracy", r.accuracy},
                              {"macro_precision", r.macro_precision},
                              {"macro_recall", r.macro_recall},
                              {"macro_f1", r.macro_f1},
                              {"format_rate", outcome.format_rate},
                              {"mean_completion_length", outcome.mean_completion_length},
                              {"classes", nlohmann::ordered_json::array()},
                              {"confusion_labels", r.confusion_labels},
                              {"confusion", r.confusion}};
  for (const ClassMetrics& c : r.classes)
    json["classes"].push_back({{"label", c.label},
                               {"precision", c.precision},
                               {"recall", c.recall},
                               {"f1", c.f1},
                               {"support", c.support}});
  return json;
}

}  // namespace ferro
