#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "reward/paired_interval.h"

namespace ferro {

/// The figures of an evaluation for people: totals, a row per class, the confusion matrix.
std::string format_report(const EvalOutcome& outcome);

/// "B - A = +4.2 points (95 % interval +2.1 to +6.3; ...)".
std::string format_interval(const PairedInterval& interval, const std::string& a, const std::string& b);

/// The same as data: accuracy, macro_precision, macro_recall, macro_f1, count, set_aside, format_rate,
/// mean_completion_length, classes, confusion_labels, confusion.
nlohmann::ordered_json report_json(const EvalOutcome& outcome);

}  // namespace ferro
