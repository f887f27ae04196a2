#pragma once

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

/// |got - stored| <= abs + rel * |stored|: what is left of the bound (>= 0 inside), by the manifest's rule
/// `abs_rel`.
inline double slack(const nlohmann::json& tolerance, double got, double stored) {
  return tolerance.value("abs", 0.0) + tolerance.value("rel", 0.0) * std::abs(stored) -
         std::abs(got - stored);
}

}  // namespace ferro::testing
