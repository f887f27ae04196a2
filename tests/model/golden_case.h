#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "data/packing.h"
#include "model/model_folder.h"
#include "model/qwen.h"
#include "model/safetensors.h"
#include "tests/golden.h"

namespace ferro::testing {

/// The set's manifest and its tensors by reference.
class GoldenSet {
 public:
  explicit GoldenSet(std::filesystem::path folder);
  const std::filesystem::path& folder() const { return folder_; }
  const nlohmann::json& manifest() const { return manifest_; }
  /// `reference` is an object with `file` and `tensor`.
  at::Tensor tensor(const nlohmann::json& reference) const;
  nlohmann::json json(const std::string& file) const { return read_json(folder_ / file); }
  /// All checkpoints hold the same weights; this is the first.
  std::filesystem::path first_checkpoint() const;
  Model model(bool panels) const;

 private:
  std::filesystem::path folder_;
  nlohmann::json manifest_;
};

/// One row of a case's batch without its padding.
struct GoldenRow {
  Prompt prompt;
  std::vector<std::int64_t> places;  ///< Of its tokens in the padded row.
};

/// A forward case as ferro takes it: unpadded rows, images one by one.
struct GoldenCase {
  std::vector<GoldenRow> rows;
  PackedBatch batch;           ///< All rows, one segment each.
  std::vector<GridThw> grids;  ///< Of all media, in order.
  at::Tensor pixels;           ///< [N, patch_values] of all media.
};
GoldenCase load_case(const GoldenSet& set, const nlohmann::json& entry, const ModelConfig& config,
                     PositionRule rule);

/// Compares by the manifest's rule ("abs", "rel", "of_max", "exact") and prints the largest difference beside
/// what is allowed.
void expect_close(const std::string& what, const at::Tensor& got, const at::Tensor& stored,
                  const nlohmann::json& tolerance);

}  // namespace ferro::testing
