#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/aten.h"
#include "model/safetensors.h"
#include "tests/golden.h"

namespace ferro::testing {

/// The tensor a manifest entry {file, tensor, shape} names, checked against its shape.
inline at::Tensor manifest_tensor(const std::filesystem::path& golden, const nlohmann::json& entry) {
  const SafetensorsFile file(golden / entry.at("file").get<std::string>());
  at::Tensor tensor = file.tensor(entry.at("tensor").get<std::string>()).clone();
  FERRO_CHECK(tensor.sizes().vec() == entry.at("shape").get<std::vector<std::int64_t>>(), "shape of {}",
              entry.at("tensor").get<std::string>());
  return tensor;
}

/// What the manifest's rule `abs_rel` allows: abs + rel * |stored|.
inline double allowed_by(const nlohmann::json& tolerance, double stored) {
  return tolerance.value("abs", 0.0) + tolerance.value("rel", 0.0) * std::abs(stored);
}

/// |got - stored| <= abs + rel * |stored|: what is left of the bound (>= 0 inside), by the manifest's rule
/// `abs_rel`.
inline double slack(const nlohmann::json& tolerance, double got, double stored) {
  return allowed_by(tolerance, stored) - std::abs(got - stored);
}

/// Of all that one case compares, what comes closest to its tolerance; a NaN above all.
struct Closest {
  std::string what;
  double difference = 0, allowed = 0;

  /// Whether it is within.
  bool add(const std::string& quantity, double found, double tolerance) {
    const bool farther =
        std::isnan(difference) || (!what.empty() && found * allowed <= difference * tolerance);
    if (!farther) {
      what = quantity;
      difference = found;
      allowed = tolerance;
    }
    return found <= tolerance;
  }
  bool add(const std::string& quantity, double got, double stored, const nlohmann::json& tolerance) {
    return add(quantity, std::abs(got - stored), allowed_by(tolerance, stored));
  }
  void report(const std::string& comparison) const {
    report_difference(comparison + (what.empty() ? "" : ": " + what), difference, allowed);
  }
};

}  // namespace ferro::testing
