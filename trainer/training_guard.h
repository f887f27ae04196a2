#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "core/config_visitor.h"

namespace ferro {

/// What a run does when its numbers leave their bounds.
struct GuardConfig {
  std::string on_non_finite = "stop";
  std::int64_t max_skipped_in_a_row = 10;
  double max_kl = 0.0, min_entropy = 1e-6, max_entropy = 0.0;
  std::string on_divergence = "stop";
  double rate_factor = 0.5;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("on_non_finite", on_non_finite, Choices{"stop", "skip"},
            "A loss or gradient that is not finite: stop before the update with exit code 76 and the rows in "
            "divergence.json, or leave the update out and count it (updates/skipped_non_finite).");
    v.field("max_skipped_in_a_row", max_skipped_in_a_row, {.min = 1},
            "So many updates left out one after the other stop the run after all.");
    v.field("max_kl", max_kl, {.min = 0.0, .max = 1e9}, "Largest kl of a step; 0: no bound.");
    v.field("min_entropy", min_entropy, {.min = 0.0, .max = 1e3},
            "Least entropy of a step, in nats a token; 0: no bound. The default is a policy that always "
            "gives the same answer, which nothing can teach any more.");
    v.field("max_entropy", max_entropy, {.min = 0.0, .max = 1e3}, "Largest entropy of a step; 0: no bound.");
    v.field(
        "on_divergence", on_divergence, Choices{"stop", "lower_rate"},
        "kl or entropy out of bounds: save the model and stop with exit code 76, or multiply the learning "
        "rate by rate_factor from here on.");
    v.field("rate_factor", rate_factor, {.min = 0.0, .max = 1.0}, "Of lower_rate.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (max_entropy != 0 && max_entropy < min_entropy) report("max_entropy", "must be at least min_entropy");
  }
};

/// Counts and decides. One thread.
class TrainingGuard {
 public:
  explicit TrainingGuard(GuardConfig config);

  /// What becomes of a step's update: kSkip leaves it out and counts it, kStop ends the run.
  enum class Update { kApply, kSkip, kStop };
  Update before_update(bool finite);
  /// What is out of bounds in a step's metrics ("kl 3.1 is above guard.max_kl 1"); "": nothing. Lowers the
  /// rate where that is what the configuration asks for.
  std::string after_step(const std::map<std::string, double>& metrics);
  bool stops_on_divergence() const { return config_.on_divergence == "stop"; }
  double rate_factor() const { return rate_factor_; }
  /// "updates/skipped_non_finite", "guard/out_of_bounds", "guard/rate_factor": since the run began.
  std::map<std::string, double> metrics() const;
  nlohmann::json state() const;  ///< What restore() takes.
  void restore(const nlohmann::json& state);

 private:
  GuardConfig config_;
  std::int64_t skipped_ = 0, skipped_in_a_row_ = 0, out_of_bounds_ = 0;
  double rate_factor_ = 1;
};

}  // namespace ferro
