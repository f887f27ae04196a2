#include "trainer/chunked_head.h"

#include <cmath>

#include <catch2/catch.hpp>

#include "tests/trainer/tiny_model.h"

namespace ferro {
namespace {

struct Setting {
  Model model = testing::random_model(testing::tiny_config(), 4, true);
  at::Tensor hidden_TD = at::sin(at::arange(20 * 64, at::kFloat)).view({20, 64});
  // Rows out of order, row 5 shared by three targets.
  std::vector<Target> targets{{5, 17, 0}, {6, 3, 0}, {5, 40, 1}, {19, 2, 1}, {5, 17, 2}, {0, 189, 3}};
  std::vector<std::int32_t> banned{192, 193};
  static constexpr double kTemperature = 0.7;
};

// Log-probs and entropies by ATen's autograd on full logits.
std::pair<at::Tensor, at::Tensor> full(const Setting& s, const at::Tensor& hidden_TD,
                                       const at::Tensor& head_VD) {
  at::Tensor logits = at::matmul(hidden_TD, head_VD.t()) / Setting::kTemperature;
  const at::Tensor mask = at::zeros({logits.size(1)}, at::kFloat);
  for (const std::int32_t id : s.banned) mask[id] = -1e30;
  const at::Tensor logp_TV = at::log_softmax(logits + mask, 1);
  std::vector<at::Tensor> logps, entropies;
  for (const Target& target : s.targets) {
    logps.push_back(logp_TV[target.row][target.token]);
    entropies.push_back(-(logp_TV[target.row].exp() * logp_TV[target.row]).sum());
  }
  return {at::stack(logps), at::stack(entropies)};
}

}  // namespace

TEST_CASE("chunks of any size give the log-probs, entropies and gradients of full logits") {
  Setting s;
  const std::vector<float> grad_logps{0.3F, -1.0F, 0.2F, 0.5F, -0.7F, 1.1F},
      grad_entropies{0.1F, 0.0F, -0.2F, 0.3F, 0.05F, -0.4F};
  const at::Tensor head_VD = s.model.arena.export_parameter("model.embed_tokens.weight").requires_grad_(true);
  const at::Tensor hidden = s.hidden_TD.clone().requires_grad_(true);
  const auto [logps, entropies] = full(s, hidden, head_VD);
  const at::Tensor objective =
      (logps * at::tensor(grad_logps)).sum() + (entropies * at::tensor(grad_entropies)).sum();
  const auto expected = torch::autograd::grad({objective}, {hidden, head_VD});

  for (const auto& [chunk, keep] : {std::pair{1, true}, {3, false}, {3, true}, {1024, false}, {1024, true}}) {
    INFO("chunk " << chunk << (keep ? ", probabilities kept" : ""));
    const ChunkedHead head(s.model.weights.head, s.banned, Setting::kTemperature, chunk);
    auto values = head.forward(s.hidden_TD, s.targets, keep);
    CHECK(values.kept.empty() != keep);
    for (std::size_t i = 0; i < s.targets.size(); ++i) {
      const auto index = static_cast<std::int64_t>(i);
      CHECK(values.logprobs[i] == Approx(logps[index].item<float>()).margin(1e-5));
      CHECK(values.entropies[i] == Approx(entropies[index].item<float>()).margin(1e-5));
    }
    s.model.arena.gradients.zero_();
    const at::Tensor grad_hidden = head.backward(s.hidden_TD, s.targets, values, grad_logps, grad_entropies);
    CHECK(values.kept.empty());
    CHECK((grad_hidden - expected[0]).abs().max().item<double>() <= 1e-5);
    CHECK((s.model.arena.export_gradient("model.embed_tokens.weight") - expected[1])
              .abs()
              .max()
              .item<double>() <= 1e-5);
  }
}

TEST_CASE("both sweeps in one give the bits of the two") {
  Setting s;
  const ChunkedHead head(s.model.weights.head, s.banned, 1.0, 2);
  const std::vector<float> grads(s.targets.size(), -0.25F);
  auto values = head.forward(s.hidden_TD, s.targets, true);
  s.model.arena.gradients.zero_();
  const at::Tensor grad_hidden = head.backward(s.hidden_TD, s.targets, values, grads, {});
  const at::Tensor gradients = s.model.arena.gradients.clone();
  s.model.arena.gradients.zero_();
  const auto [fused_values, fused_grad] = head.forward_backward(s.hidden_TD, s.targets, -0.25F);
  CHECK(fused_values.logprobs == values.logprobs);
  CHECK(at::equal(fused_grad, grad_hidden));
  CHECK(at::equal(s.model.arena.gradients, gradients));
}

TEST_CASE("a target is correct where it is the likeliest token that is not banned") {
  Setting s;
  const at::Tensor logits =
      at::matmul(s.hidden_TD, s.model.arena.export_parameter("model.embed_tokens.weight").t());
  for (Target& target : s.targets) {
    const at::Tensor row = logits[target.row].clone();
    for (const std::int32_t id : s.banned) row[id] = -1e30;
    target.token = static_cast<std::int32_t>(row.argmax().item<std::int64_t>());
  }
  s.targets[1].token = (s.targets[1].token + 1) % 190;
  const auto values = ChunkedHead(s.model.weights.head, s.banned, 1.0).forward(s.hidden_TD, s.targets);
  CHECK(values.correct == std::vector<std::uint8_t>{1, 0, 1, 1, 1, 1});
}

}  // namespace ferro
