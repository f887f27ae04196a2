#include "trainer/chunked_head.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <c10/core/GradMode.h>

#include "core/error.h"

namespace ferro {

// Shapes: T packed tokens, U rows of a chunk, N its targets, V vocabulary, D width.

struct ChunkedHead::Chunk {
  std::vector<std::size_t> targets;  ///< [N] indices into the batch's targets, by row.
  std::vector<std::int32_t> tokens;  ///< [N]
  std::vector<std::int32_t> begins;  ///< [U + 1] a row's first target.
  at::Tensor rows_U;                 ///< Distinct packed rows.
};

ChunkedHead::ChunkedHead(const LinearWeights& head, std::vector<std::int32_t> banned_ids, double temperature,
                         std::int64_t chunk_rows)
    : head_(head), banned_ids_(std::move(banned_ids)), temperature_(temperature), chunk_rows_(chunk_rows) {
  FERRO_CHECK(temperature > 0 && chunk_rows > 0, "temperature {}, chunk of {} rows", temperature, chunk_rows);
}

std::vector<ChunkedHead::Chunk> ChunkedHead::chunks_of(std::span<const Target> targets,
                                                       const at::Tensor& hidden_TD) const {
  std::vector<std::size_t> order(targets.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return targets[a].row < targets[b].row; });
  std::vector<Chunk> chunks;
  for (std::size_t at = 0; at < order.size();) {
    Chunk chunk;
    std::vector<std::int64_t> rows;
    for (; at < order.size(); ++at) {
      const Target& target = targets[order[at]];
      if (rows.empty() || rows.back() != target.row) {
        if (static_cast<std::int64_t>(rows.size()) == chunk_rows_) break;
        rows.push_back(target.row);
        chunk.begins.push_back(static_cast<std::int32_t>(chunk.targets.size()));
      }
      chunk.targets.push_back(order[at]);
      chunk.tokens.push_back(target.token);
    }
    chunk.begins.push_back(static_cast<std::int32_t>(chunk.targets.size()));
    chunk.rows_U = at::tensor(rows, at::kLong).to(hidden_TD.device());
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

at::Tensor ChunkedHead::probabilities(const Chunk& chunk, const at::Tensor& rows_UD, Forward& out) const {
  at::Tensor logits = linear(rows_UD, head_);
  const std::vector<TokenLogprob> values =
      token_logprobs(logits, chunk.tokens, temperature_, banned_ids_, chunk.begins);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t target = chunk.targets[i];
    out.logprobs[target] = values[i].logprob;
    out.entropies[target] = values[i].entropy;
    out.correct[target] = values[i].is_largest ? 1 : 0;
  }
  return logits;
}

// d logp(y) / d logit_j = (1[j = y] - p_j) / temperature, d H / d logit_j = -p_j (log p_j + H) / temperature;
// the targets of a row add up.
void ChunkedHead::backward_chunk(const Chunk& chunk, const at::Tensor& rows_UD, at::Tensor probabilities_UV,
                                 std::span<const float> grad_logprobs, std::span<const float> grad_entropies,
                                 const Forward& values, at::Tensor& grad_hidden_TD) const {
  const auto n = static_cast<std::int64_t>(chunk.targets.size());
  const std::int64_t rows = rows_UD.size(0), vocabulary = probabilities_UV.size(1);
  const at::Tensor grads_N = at::empty({n}, at::kFloat), places_N = at::empty({n}, at::kLong);
  const at::Tensor sums_U = at::zeros({rows, 1}, at::kFloat),
                   entropy_sums_U = at::zeros({rows, 1}, at::kFloat),
                   entropies_U = at::empty({rows, 1}, at::kFloat);
  const auto scale = static_cast<float>(1 / temperature_);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<std::size_t>(chunk.begins[static_cast<std::size_t>(row)]),
               end = static_cast<std::size_t>(chunk.begins[static_cast<std::size_t>(row) + 1]);
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t target = chunk.targets[i];
      const float grad = grad_logprobs[target] * scale;
      grads_N.data_ptr<float>()[i] = grad;
      places_N.data_ptr<std::int64_t>()[i] = row * vocabulary + chunk.tokens[i];
      sums_U.data_ptr<float>()[row] -= grad;
      if (!grad_entropies.empty()) entropy_sums_U.data_ptr<float>()[row] += grad_entropies[target] * scale;
    }
    entropies_U.data_ptr<float>()[row] = values.entropies[chunk.targets[begin]];
  }
  const at::Device device = rows_UD.device();
  at::Tensor entropy_part_UV;
  if (!grad_entropies.empty())
    entropy_part_UV = at::xlogy(probabilities_UV, probabilities_UV)
                          .add_(probabilities_UV * entropies_U.to(device))
                          .mul_(entropy_sums_U.to(device));
  at::Tensor grad_logits = probabilities_UV.mul_(sums_U.to(device));
  grad_logits.view({-1}).index_add_(0, places_N.to(device), grads_N.to(device));
  if (entropy_part_UV.defined()) grad_logits.sub_(entropy_part_UV);
  grad_hidden_TD.index_copy_(0, chunk.rows_U, linear_backward(rows_UD, grad_logits, head_, true));
}

namespace {

ChunkedHead::Forward empty_forward(std::size_t targets) {
  return {std::vector<float>(targets), std::vector<float>(targets), std::vector<std::uint8_t>(targets), {}};
}

}  // namespace

ChunkedHead::Forward ChunkedHead::forward(const at::Tensor& hidden_TD, std::span<const Target> targets,
                                          bool keep) const {
  const c10::AutoGradMode no_graph(false);
  Forward out = empty_forward(targets.size());
  std::int64_t room = keep ? kKeptFloats : 0;
  for (const Chunk& chunk : chunks_of(targets, hidden_TD)) {
    at::Tensor chunk_UV = probabilities(chunk, hidden_TD.index_select(0, chunk.rows_U), out);
    room -= chunk_UV.numel();
    if (room >= 0) out.kept.push_back(std::move(chunk_UV));
  }
  return out;
}

at::Tensor ChunkedHead::backward(const at::Tensor& hidden_TD, std::span<const Target> targets,
                                 Forward& values, std::span<const float> grad_logprobs,
                                 std::span<const float> grad_entropies) const {
  FERRO_CHECK(values.entropies.size() == targets.size() && grad_logprobs.size() == targets.size() &&
                  (grad_entropies.empty() || grad_entropies.size() == targets.size()),
              "{} targets, {} gradients, {} entropy gradients", targets.size(), grad_logprobs.size(),
              grad_entropies.size());
  const c10::AutoGradMode no_graph(false);
  at::Tensor grad_hidden_TD = at::zeros_like(hidden_TD);
  const std::vector<Chunk> chunks = chunks_of(targets, hidden_TD);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const at::Tensor rows_UD = hidden_TD.index_select(0, chunks[i].rows_U);
    const at::Tensor chunk_UV = i < values.kept.size() ? std::exchange(values.kept[i], {})
                                                       : probabilities(chunks[i], rows_UD, values);
    backward_chunk(chunks[i], rows_UD, chunk_UV, grad_logprobs, grad_entropies, values, grad_hidden_TD);
  }
  values.kept.clear();
  return grad_hidden_TD;
}

std::pair<ChunkedHead::Forward, at::Tensor> ChunkedHead::forward_backward(const at::Tensor& hidden_TD,
                                                                          std::span<const Target> targets,
                                                                          float grad_logprob) const {
  const c10::AutoGradMode no_graph(false);
  const std::vector<float> grads(targets.size(), grad_logprob);
  Forward values = empty_forward(targets.size());
  at::Tensor grad_hidden_TD = at::zeros_like(hidden_TD);
  for (const Chunk& chunk : chunks_of(targets, hidden_TD)) {
    const at::Tensor rows_UD = hidden_TD.index_select(0, chunk.rows_U);
    backward_chunk(chunk, rows_UD, probabilities(chunk, rows_UD, values), grads, {}, values, grad_hidden_TD);
  }
  return {std::move(values), grad_hidden_TD};
}

}  // namespace ferro
