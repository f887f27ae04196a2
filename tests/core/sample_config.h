#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config_visitor.h"

namespace ferro::testing {

struct SampleInner {
  double rate = 1e-6;
  double share = 0.5;
  std::string shape = "cosine";

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("rate", rate, {.min = 0.0}, "Learning rate.");
    v.field("share", share, {.min = 0.0, .max = 1.0}, "A share.");
    v.field("shape", shape, Choices{"cosine", "linear"}, "Shape | of the schedule.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (shape == "linear" && rate > 1.0) report("rate", "must be at most 1 with linear");
  }
};

/// A field of each type, a section in a section, rules at both levels.
struct SampleConfig {
  std::string name = "run";
  bool enabled = false;
  int small = 3;
  std::int64_t steps = 0;
  double ratio = 0.25;
  std::vector<std::string> words{"a", "b"};
  std::vector<double> weights;
  std::vector<std::int64_t> sizes{1, 2};
  SampleInner optimizer;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("name", name, "Name of the run.");
    v.field("enabled", enabled, "Whether.");
    v.field("small", small, {.min = 1, .max = 10}, "A small number.");
    v.field("steps", steps, {.min = 0, .max = 1'000'000'000}, "Steps.");
    v.field("ratio", ratio, "Any number.");
    v.field("words", words, "Words.");
    v.field("weights", weights, "Weights.");
    v.field("sizes", sizes, "Sizes.");
    v.section("optimizer", optimizer, "How steps are made.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (!weights.empty() && weights.size() != words.size())
      report("weights", "must have one weight per word");
    if (name == "fast" && optimizer.rate < 0.5) report("optimizer.rate", "must be at least 0.5 for fast");
  }
};

}  // namespace ferro::testing
