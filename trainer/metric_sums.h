#pragma once

#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace ferro {

/// Parts of metrics that add up over micro-batches and ranks: "<name>/sum" with "<name>/count" (a mean),
/// "<name>/min", "<name>/max".
using MetricSums = std::map<std::string, double>;

void add_to_mean(MetricSums& sums, const std::string& name, double value, double count = 1);
void keep_least(MetricSums& sums, const std::string& name, double value);
void keep_largest(MetricSums& sums, const std::string& name, double value);
void merge_sums(MetricSums& into, const MetricSums& from);

/// The metrics: means (NaN where the count is 0), least and largest values under their plain names.
std::map<std::string, double> metrics_of(const MetricSums& sums);

/// Means of metrics over the steps between two lines of metrics.jsonl. NaN values are left out.
class MetricWindow {
 public:
  void add(const std::string& name, double value);
  void add(const std::map<std::string, double>& metrics);
  void set(const std::string& name, double value);  ///< The last value stands.
  std::map<std::string, double> take();             ///< And start the next window.
  nlohmann::json state() const;                     ///< What restore() takes.
  void restore(const nlohmann::json& state);

 private:
  struct Mean {
    double sum = 0, count = 0;
  };
  std::map<std::string, Mean> means_;
};

}  // namespace ferro
