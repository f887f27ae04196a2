#include <catch2/catch.hpp>

#include "tests/model/ops_inputs.h"

// A row has the same bits whatever is computed beside it and however many threads compute it: rollout
// log-probs equal trainer log-probs.

namespace ferro {
namespace {

using namespace ferro::testing;

struct CacheCase {
  at::Tensor q, k, v;  ///< Training rows.
  AttentionPlan plan;
};

CacheCase packed_case(std::int64_t heads, std::int64_t kv_heads, std::int64_t width) {
  CacheCase c;
  std::int32_t rows = 0;
  append_group(c.plan, rows, 45, {60, 1, 33, 17});
  append_group(c.plan, rows, 7, {});
  append_group(c.plan, rows, 64, {32, 70, 5});
  c.q = random_tensor({rows, heads, width}, 1);
  c.k = random_tensor({rows, kv_heads, width}, 2);
  c.v = random_tensor({rows, kv_heads, width}, 3);
  return c;
}

/// Decodes step `step` of every span that is so long, all in one batch, each span's query seeing its keys so
/// far.
void check_decoding_step(const CacheCase& c, const at::Tensor& trained, std::int32_t step) {
  AttentionPlan decode;
  std::vector<std::int32_t> rows;
  for (const AttentionSpan& s : c.plan.spans) {
    if (s.query_begin + step >= s.query_end) continue;
    const auto at = static_cast<std::int32_t>(rows.size());
    decode.spans.push_back({at, at + 1, s.prefix_begin, s.prefix_end, s.key_begin, s.key_begin + step + 1});
    rows.push_back(s.query_begin + step);
  }
  const at::Tensor index = reference::index_tensor(rows, at::kCPU);
  CAPTURE(step);
  CHECK(same_bits(attention(c.q.index_select(0, index), c.k, c.v, decode), trained.index_select(0, index)));
}

}  // namespace

TEST_CASE("a linear layer's row has the same bits for any number of rows and threads") {
  for (const auto& [in, out] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {128, 384}, {513, 33}, {1300, 70}, {96, 288}, {384, 2048}}) {
    const LinearCase c = random_linear(in, out, true, 5);
    const at::Tensor x = random_tensor({301, in}, 6);
    at::Tensor all;
    {
      const Threads one(1);
      all = linear(x, c.panels);
    }
    for (const int threads : {1, 2, 3}) {
      const Threads scope(threads);
      CAPTURE(in, out, threads);
      CHECK(same_bits(linear(x, c.panels), all));
      for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 27, 29, 100, 113, 300})
        for (const std::int64_t first : {std::int64_t{0}, 301 - rows}) {
          CAPTURE(rows, first);
          CHECK(same_bits(linear(x.slice(0, first, first + rows), c.panels),
                          all.slice(0, first, first + rows)));
        }
    }
  }
}

TEST_CASE("a linear layer's gradients have the same bits for any number of threads") {
  const LinearCase c = random_linear(530, 200, true, 5);
  const at::Tensor x = random_tensor({777, 530}, 6), grad = random_tensor({777, 200}, 7);
  auto run = [&](int threads) {
    const Threads scope(threads);
    c.panels.weight.grad.zero_();
    c.panels.bias.grad.zero_();
    const at::Tensor dx = linear_backward(x, grad, c.panels, true);
    return std::vector<at::Tensor>{dx, c.panels.weight.grad.clone(), c.panels.bias.grad.clone()};
  };
  const std::vector<at::Tensor> one = run(1);
  for (const int threads : {2, 3}) {
    const std::vector<at::Tensor> many = run(threads);
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], many[i]));
  }
}

TEST_CASE("decoding attention yields the bits of training attention at every step") {
  for (const auto& [heads, kv_heads, width] : std::vector<std::array<std::int64_t, 3>>{
           {4, 2, 32}, {6, 2, 24}, {2, 1, 80}, {16, 1, 16}, {3, 3, 128}, {28, 4, 5}}) {
    const CacheCase c = packed_case(heads, kv_heads, width);
    CAPTURE(heads, kv_heads, width);
    at::Tensor trained;
    {
      const Threads one(1);
      trained = attention(c.q, c.k, c.v, c.plan);
    }
    const Threads two(2);
    CHECK(same_bits(attention(c.q, c.k, c.v, c.plan), trained));
    for (std::int32_t step = 0; step < 70; ++step) check_decoding_step(c, trained, step);
  }
}

TEST_CASE("a prompt repeated before its answer yields the bits of the shared prompt") {
  const std::int64_t width = 32;
  AttentionPlan shared, alone;
  std::int32_t rows = 0;
  append_group(shared, rows, 45, {20});
  alone.spans = {{0, 65, 0, 0, 0, 65}};
  const at::Tensor q = random_tensor({65, 4, width}, 1), k = random_tensor({65, 2, width}, 2),
                   v = random_tensor({65, 2, width}, 3);
  CHECK(same_bits(attention(q, k, v, shared), attention(q, k, v, alone)));
}

TEST_CASE("recording a graph does not change attention's bits, and gradients do not depend on threads") {
  const CacheCase c = packed_case(4, 2, 32);
  auto run = [&](int threads) {
    const Threads scope(threads);
    const std::vector<at::Tensor> inputs{c.q.clone().set_requires_grad(true),
                                         c.k.clone().set_requires_grad(true),
                                         c.v.clone().set_requires_grad(true)};
    const at::Tensor out = attention(inputs[0], inputs[1], inputs[2], c.plan);
    std::vector<at::Tensor> results = gradients(out, inputs, at::ones_like(out));
    results.push_back(out.detach());
    return results;
  };
  const std::vector<at::Tensor> one = run(1), two = run(2);
  for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], two[i]));
  CHECK(same_bits(one[3], attention(c.q, c.k, c.v, c.plan)));
}

TEST_CASE(
    "row operations have the same bits at any place in a buffer, beside any rows, at any thread count") {
  for (const std::int64_t width : {5, 24, 128, 333}) {
    CAPTURE(width);
    const std::int64_t rows = 40000 / width + 40;
    const at::Tensor x = random_tensor({rows, width}, 1, 3.0f), up = random_tensor({rows, width}, 2);
    const Param weight{random_tensor({width}, 3), {}};
    const Threads two(2);
    const at::Tensor norm = rms_norm(x, weight, 1e-6), gated = swiglu(x, up), bent = ferro::gelu(x);
    const Threads one(1);
    for (const std::int64_t row : {std::int64_t{0}, std::int64_t{3}, rows - 1}) {
      // One row, and the same row moved by three floats in a buffer of its own.
      at::Tensor moved = at::zeros({width + 3}).slice(0, 3).unsqueeze(0), moved_up = moved.clone();
      moved.copy_(x.slice(0, row, row + 1));
      moved_up.copy_(up.slice(0, row, row + 1));
      CHECK(same_bits(rms_norm(moved, weight, 1e-6), norm.slice(0, row, row + 1)));
      CHECK(same_bits(swiglu(moved, moved_up), gated.slice(0, row, row + 1)));
      CHECK(same_bits(ferro::gelu(moved), bent.slice(0, row, row + 1)));
    }
  }
}

TEST_CASE("a token's log-prob has the same bits beside any rows") {
  const at::Tensor logits = random_tensor({70, 1003}, 1, 4.0f);
  std::vector<std::int32_t> tokens(70);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 14);
  const std::vector<std::int32_t> banned{2, 1000};
  at::Tensor all = logits.clone();
  const std::vector<TokenLogprob> together = token_logprobs(all, tokens, 0.9, banned);
  for (const std::int64_t row : {0, 1, 33, 69}) {
    at::Tensor alone = logits.slice(0, row, row + 1).clone();
    const auto at = static_cast<std::size_t>(row);
    const std::vector<TokenLogprob> one =
        token_logprobs(alone, std::span(tokens).subspan(at, 1), 0.9, banned);
    CHECK(one[0].logprob == together[at].logprob);
    CHECK(one[0].entropy == together[at].entropy);
    CHECK(same_bits(alone, all.slice(0, row, row + 1)));
  }
}

}  // namespace ferro
