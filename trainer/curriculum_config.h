#pragma once

#include <cstdint>
#include <string>

#include "core/config_visitor.h"

namespace ferro {

/// Which prompts a GRPO run trains on.
struct CurriculumConfig {
  bool dynamic_sampling = false;
  std::int64_t max_resample_rounds = 3;
  double min_pass_rate = 0.0, max_pass_rate = 1.0;
  std::string pass_rates_file;
  bool save_pass_rates = false;

  bool filters() const { return min_pass_rate > 0 || max_pass_rate < 1; }

  template <class Visitor>
  void visit(Visitor& v) {
    v.field(
        "dynamic_sampling", dynamic_sampling,
        "Drop groups whose rewards all agree and sample further prompts in their place (DAPO). The number "
        "of steps stays; the run passes over the data more often.");
    v.field("max_resample_rounds", max_resample_rounds, {.min = 0, .max = 1000},
            "Rounds of further prompts per generation; after the last the step is taken with what there is.");
    v.field("min_pass_rate", min_pass_rate, {.min = 0.0, .max = 1.0},
            "Prompts whose earlier pass rate (mean of the first reward function) is lower are passed over.");
    v.field("max_pass_rate", max_pass_rate, {.min = 0.0, .max = 1.0},
            "Prompts whose earlier pass rate is higher are passed over.");
    v.field(
        "pass_rates_file", pass_rates_file,
        "JSON lines with `row` and `pass_rate`, as save_pass_rates writes them; the last of a row counts. "
        "Empty: the rates of the run's own previous epoch.");
    v.field("save_pass_rates", save_pass_rates,
            "Write pass_rates.jsonl: epoch, row, pass_rate of each group.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (max_pass_rate < min_pass_rate) report("max_pass_rate", "must be at least min_pass_rate");
  }
};

}  // namespace ferro
