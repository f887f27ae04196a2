#pragma once

#include <nlohmann/json.hpp>

namespace ferro {

/// A number that comes back with the same bits, infinities and NaN included (as text).
nlohmann::json json_of(double value);
/// Throws nlohmann::json::exception for anything else.
double number_of(const nlohmann::json& value);

}  // namespace ferro
