#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "launch/commands.h"
#include "reward/paired_interval.h"

namespace ferro {

/// JSON lines: {"id", "image_path", "truth", "predicted", "response"} per answered row. Atomic; Error{kIo}.
void write_predictions(const std::filesystem::path& path, std::span<const Prediction> predictions);

/// Error{kIo} missing; Error{kData} with file and line for a line that is not such an object.
std::vector<Prediction> read_predictions(const std::filesystem::path& path);

/// B against A on the rows both answered (same id and truth). Error{kData} when they share none.
PairedInterval compare_predictions(std::span<const Prediction> a, std::span<const Prediction> b);

}  // namespace ferro
