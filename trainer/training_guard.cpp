#include "trainer/training_guard.h"

#include <utility>

#include <fmt/format.h>

#include "trainer/state_json.h"

namespace ferro {

TrainingGuard::TrainingGuard(GuardConfig config) : config_(std::move(config)) {}

TrainingGuard::Update TrainingGuard::before_update(bool finite) {
  if (finite) {
    skipped_in_a_row_ = 0;
    return Update::kApply;
  }
  if (config_.on_non_finite == "stop") return Update::kStop;
  ++skipped_;
  return ++skipped_in_a_row_ > config_.max_skipped_in_a_row ? Update::kStop : Update::kSkip;
}

std::string TrainingGuard::after_step(const std::map<std::string, double>& metrics) {
  std::string out;
  const auto check = [&](const char* name, double bound, const char* key, bool above) {
    const auto at = metrics.find(name);
    if (bound == 0 || at == metrics.end()) return;
    if (above ? at->second > bound : at->second < bound)
      out += fmt::format("{}{} {} is {} guard.{} {}", out.empty() ? "" : ", ", name, at->second,
                         above ? "above" : "below", key, bound);
  };
  check("kl", config_.max_kl, "max_kl", true);
  check("entropy", config_.min_entropy, "min_entropy", false);
  check("entropy", config_.max_entropy, "max_entropy", true);
  if (out.empty()) return out;
  ++out_of_bounds_;
  if (config_.on_divergence == "lower_rate") rate_factor_ *= config_.rate_factor;
  return out;
}

nlohmann::json TrainingGuard::state() const {
  return {{"skipped", skipped_},
          {"skipped_in_a_row", skipped_in_a_row_},
          {"out_of_bounds", out_of_bounds_},
          {"rate_factor", json_of(rate_factor_)}};
}

void TrainingGuard::restore(const nlohmann::json& state) {
  skipped_ = state.at("skipped").get<std::int64_t>();
  skipped_in_a_row_ = state.at("skipped_in_a_row").get<std::int64_t>();
  out_of_bounds_ = state.at("out_of_bounds").get<std::int64_t>();
  rate_factor_ = number_of(state.at("rate_factor"));
}

std::map<std::string, double> TrainingGuard::metrics() const {
  return {{"updates/skipped_non_finite", static_cast<double>(skipped_)},
          {"guard/out_of_bounds", static_cast<double>(out_of_bounds_)},
          {"guard/rate_factor", rate_factor_}};
}

}  // namespace ferro
