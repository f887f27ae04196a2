#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/trainer/golden_tensors.h"
#include "trainer/policy_loss.h"

namespace ferro::testing {

/// One golden batch of padded rows, packed: rows keep their padding, which the mask switches off.
template <class Real>
struct LossBatch {
  std::int64_t rows = 0, width = 0;
  std::vector<std::int64_t> offsets;
  std::vector<Real> logps, entropies, advantages;
  std::vector<std::uint8_t> mask, tool_mask;
  std::map<std::string, std::vector<Real>> optional;  ///< The rest by name.

  /// With the optional tensors of these names.
  PolicyLossInputs<Real> inputs(const std::set<std::string>& with,
                                std::span<const std::uint8_t> trained) const {
    PolicyLossInputs<Real> in;
    in.offsets = offsets;
    in.logps = logps;
    in.entropies = entropies;
    for (const std::string& name : with) {
      if (name == "tool_mask") continue;
      std::span<const Real> values = optional.at(name);
      if (name == "old_logps") {
        in.old_logps = values;
      } else if (name == "ref_logps") {
        in.ref_logps = values;
      } else if (name == "sampling_logps") {
        in.sampling_logps = values;
      } else if (static_cast<std::int64_t>(values.size()) == rows) {
        in.sequence_correction = values;
      } else {
        in.token_correction = values;
      }
    }
    in.advantages = advantages;
    in.mask = trained;
    return in;
  }
  std::vector<std::uint8_t> mask_with_tools() const {
    std::vector<std::uint8_t> both(mask);
    for (std::size_t i = 0; i < both.size(); ++i) both[i] = static_cast<std::uint8_t>(both[i] & tool_mask[i]);
    return both;
  }
};

template <class To>
std::vector<To> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).contiguous().view(-1);
  std::vector<To> values;
  for (std::int64_t i = 0; i < flat.numel(); ++i)
    values.push_back(static_cast<To>(flat.const_data_ptr<double>()[i]));
  return values;
}

template <class Real>
LossBatch<Real> read_loss_batch(const std::filesystem::path& golden, const nlohmann::json& tensors) {
  const auto get = [&](const char* name) { return manifest_tensor(golden, tensors.at(name)); };
  LossBatch<Real> batch;
  const at::Tensor logps = get("logps");
  batch.rows = logps.size(0);
  batch.width = logps.size(1);
  for (std::int64_t i = 0; i <= batch.rows; ++i) batch.offsets.push_back(i * batch.width);
  batch.logps = values_of<Real>(logps);
  batch.entropies = values_of<Real>(get("entropies"));
  batch.advantages = values_of<Real>(get("advantages"));
  batch.mask = values_of<std::uint8_t>(get("mask"));
  batch.tool_mask = values_of<std::uint8_t>(get("tool_mask"));
  for (const auto& [name, entry] : tensors.items())
    batch.optional[name] = values_of<Real>(manifest_tensor(golden, entry));
  return batch;
}

/// Value of a metric from the sums of all micro-batches.
inline double metric_value(const std::map<std::string, double>& sums, const std::string& name) {
  for (const char* extreme : {"/min", "/max"})
    if (const auto at = sums.find(name + extreme); at != sums.end()) return at->second;
  const auto sum = sums.find(name + "/sum");
  if (sum == sums.end() || sums.at(name + "/count") == 0) return std::nan("");
  return sum->second / sums.at(name + "/count");
}

}  // namespace ferro::testing
