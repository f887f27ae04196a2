#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing.h"
#include "model/ops.h"

namespace ferro {

/// The output head over target rows in chunks: logits [T, V] never exist.
/// Sweep 1: log-prob and entropy of every target. Sweep 2: recomputes each chunk's logits and, from dL/dlogp and dL/dentropy, adds the head's gradient and
/// forms dL/dhidden. Targets that share a row (the prompt's last) share its logits.
class ChunkedHead {
 public:
  ChunkedHead(const LinearWeights& head, std::vector<std::int32_t> banned_ids, double temperature, std::int64_t chunk_rows = 1024);

  struct Forward {
    std::vector<float> logprobs, entropies;  ///< [targets]
    std::vector<std::uint8_t> correct;       ///< [targets] the target is the arg max.
  };
  Forward forward(const at::Tensor& hidden_TD, std::span<const Target> targets) const;
  /// [T, D] gradient of hidden.
  at::Tensor backward(const at::Tensor& hidden_TD, std::span<const Target> targets, std::span<const float> grad_logprobs,
                      std::span<const float> grad_entropies) const;

 private:
  LinearWeights head_;
  std::vector<std::int32_t> banned_ids_;
  double temperature_;
  std::int64_t chunk_rows_;
};

}  // namespace ferro
