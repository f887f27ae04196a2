#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/keyed_random.h"
#include "model/config.h"

namespace ferro {

/// Fresh weights of one parameter, keyed by (seed, its name): zero biases, unit norms, matrices normal with
/// standard deviation 1/sqrt(fan_in); half of that for the embedding, and 1/sqrt(2 * depth) of it where a
/// block writes to the residual stream. Independent of layout, dtype and every other parameter.
class InitialValues {
 public:
  /// `name`: the hub's; `shape`: as in files.
  InitialValues(const ModelConfig& config, const std::string& name, const std::vector<std::int64_t>& shape,
                std::uint64_t seed);
  /// Elements [first, first + out.size()) in the order of files; all of LibTorch's threads work on it.
  void fill(std::int64_t first, std::span<float> out) const;

 private:
  KeyedRandom random_;
  double deviation_ = 0;  ///< 0: all elements are `constant_`.
  float constant_ = 0;
};

}  // namespace ferro
