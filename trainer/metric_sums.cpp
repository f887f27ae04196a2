#include "trainer/metric_sums.h"

#include <algorithm>
#include <cmath>

#include "trainer/state_json.h"

namespace ferro {
namespace {

bool ends_in(const std::string& text, const char* ending) {
  return text.ends_with(ending);
}

std::string without(const std::string& text, const std::string& ending) {
  return text.substr(0, text.size() - ending.size());
}

}  // namespace

void add_to_mean(MetricSums& sums, const std::string& name, double value, double count) {
  sums[name + "/sum"] += value;
  sums[name + "/count"] += count;
}

void keep_least(MetricSums& sums, const std::string& name, double value) {
  const auto [at, added] = sums.emplace(name + "/min", value);
  if (!added) at->second = std::min(at->second, value);
}

void keep_largest(MetricSums& sums, const std::string& name, double value) {
  const auto [at, added] = sums.emplace(name + "/max", value);
  if (!added) at->second = std::max(at->second, value);
}

void merge_sums(MetricSums& into, const MetricSums& from) {
  for (const auto& [name, value] : from) {
    const auto [at, added] = into.emplace(name, value);
    if (added) continue;
    if (ends_in(name, "/min")) {
      at->second = std::min(at->second, value);
    } else if (ends_in(name, "/max")) {
      at->second = std::max(at->second, value);
    } else {
      at->second += value;
    }
  }
}

std::map<std::string, double> metrics_of(const MetricSums& sums) {
  std::map<std::string, double> metrics;
  for (const auto& [name, value] : sums) {
    if (ends_in(name, "/min")) metrics[without(name, "/min")] = value;
    if (ends_in(name, "/max")) metrics[without(name, "/max")] = value;
    if (!ends_in(name, "/sum")) continue;
    const std::string base = without(name, "/sum");
    const double count = sums.at(base + "/count");
    metrics[base] = count == 0 ? std::nan("") : value / count;
  }
  return metrics;
}

void MetricWindow::add(const std::string& name, double value) {
  Mean& mean = means_[name];
  if (std::isnan(value)) return;
  mean.sum += value;
  mean.count += 1;
}

void MetricWindow::add(const std::map<std::string, double>& metrics) {
  for (const auto& [name, value] : metrics) add(name, value);
}

void MetricWindow::set(const std::string& name, double value) {
  means_[name] = {value, 1};
}

std::map<std::string, double> MetricWindow::take() {
  std::map<std::string, double> metrics;
  for (const auto& [name, mean] : means_)
    metrics[name] = mean.count == 0 ? std::nan("") : mean.sum / mean.count;
  means_.clear();
  return metrics;
}

nlohmann::json MetricWindow::state() const {
  nlohmann::json state = nlohmann::json::object();
  for (const auto& [name, mean] : means_) state[name] = {json_of(mean.sum), json_of(mean.count)};
  return state;
}

void MetricWindow::restore(const nlohmann::json& state) {
  means_.clear();
  for (const auto& [name, mean] : state.items())
    means_[name] = {number_of(mean.at(0)), number_of(mean.at(1))};
}

}  // namespace ferro
