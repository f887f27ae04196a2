#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "data/packing.h"
#include "model/ops.h"

namespace ferro {

/// The output head over target rows in chunks: logits [T, V] never exist.
/// Sweep 1: log-prob and entropy of every target. Sweep 2: recomputes each chunk's logits and, from dL/dlogp
/// and dL/dentropy, adds the head's gradient and forms dL/dhidden. Targets that share a row (the prompt's
/// last) share its logits. Log-probs are of logits / temperature, banned ids at -inf. One thread.
class ChunkedHead {
 public:
  static constexpr std::int64_t kChunkRows = 1024;
  /// `chunk_rows`: most rows of logits at a time (targets may be more: those of a row share its logits).
  ChunkedHead(const LinearWeights& head, std::vector<std::int32_t> banned_ids, double temperature,
              std::int64_t chunk_rows = kChunkRows);

  static constexpr std::int64_t kKeptFloats = std::int64_t{1} << 24;  ///< 64 MiB.
  struct Forward {
    std::vector<float> logprobs, entropies;  ///< [targets]; entropies in nats.
    std::vector<std::uint8_t> correct;       ///< [targets] no token is likelier than the target.
    /// Probabilities of the first chunks, as many as fit kKeptFloats: backward need not compute them again.
    std::vector<at::Tensor> kept;
  };
  /// Keeps what backward can use where `keep` is set.
  Forward forward(const at::Tensor& hidden_TD, std::span<const Target> targets, bool keep = false) const;
  /// [T, D] gradient of hidden. `values`: forward's of the same arguments; what it keeps is used up.
  /// `grad_entropies` empty: none.
  at::Tensor backward(const at::Tensor& hidden_TD, std::span<const Target> targets, Forward& values,
                      std::span<const float> grad_logprobs, std::span<const float> grad_entropies) const;
  /// Both sweeps in one, for a loss whose gradient is known beforehand: `grad_logprob` is dL/dlogp of every
  /// target.
  std::pair<Forward, at::Tensor> forward_backward(const at::Tensor& hidden_TD,
                                                  std::span<const Target> targets, float grad_logprob) const;

 private:
  struct Chunk;
  std::vector<Chunk> chunks_of(std::span<const Target> targets, const at::Tensor& hidden_TD) const;
  /// Probabilities of the chunk's rows.
  at::Tensor probabilities(const Chunk& chunk, const at::Tensor& rows_UD, Forward& out) const;
  void backward_chunk(const Chunk& chunk, const at::Tensor& rows_UD, at::Tensor probabilities_UV,
                      std::span<const float> grad_logprobs, std::span<const float> grad_entropies,
                      const Forward& values, at::Tensor& grad_hidden_TD) const;

  LinearWeights head_;
  std::vector<std::int32_t> banned_ids_;
  double temperature_;
  std::int64_t chunk_rows_;
};

}  // namespace ferro
