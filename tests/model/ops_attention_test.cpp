#include <catch2/catch.hpp>

#include "tests/model/ops_inputs.h"

namespace ferro {
namespace {

using namespace ferro::testing;

// Scores, weights and sums are fp32 over up to some hundred keys; each step adds some 2^-24 relative errors,
// and exp turns a score's absolute error (about 2^-22 at |score| 4) into a relative one.
constexpr double kAttentionTolerance = 1e-5;

struct Heads {
  std::int64_t heads, kv_heads, width;
};
const std::vector<Heads> kHeads{{4, 2, 32},  {4, 4, 24},  {1, 1, 4}, {6, 2, 80},
                                {16, 1, 16}, {3, 3, 128}, {2, 1, 5}, {7, 1, 64}};

void check_plan_against_fp64(const AttentionPlan& plan, std::int64_t queries, std::int64_t keys,
                             const Heads& h) {
  CAPTURE(queries, keys, h.heads, h.kv_heads, h.width, plan.causal);
  const std::vector<at::Tensor> inputs{random_tensor({queries, h.heads, h.width}, 1).set_requires_grad(true),
                                       random_tensor({keys, h.kv_heads, h.width}, 2).set_requires_grad(true),
                                       random_tensor({keys, h.kv_heads, h.width}, 3).set_requires_grad(true)};
  const at::Tensor grad = random_tensor({queries, h.heads, h.width}, 4);
  const at::Tensor out = attention(inputs[0], inputs[1], inputs[2], plan);
  const std::vector<at::Tensor> grads = gradients(out, inputs, grad);
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& t : inputs) leaves.push_back(as_double_leaf(t));
  const at::Tensor expected = reference::attention(leaves[0], leaves[1], leaves[2], plan);
  const std::vector<at::Tensor> expected_grads = gradients(expected, leaves, grad.to(at::kDouble));
  CHECK(relative_difference(out, expected) < kAttentionTolerance);
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    CHECK(relative_difference(grads[i], expected_grads[i]) < kAttentionTolerance);
  }
}

AttentionPlan two_groups(std::int32_t& rows) {
  AttentionPlan plan;
  rows = 0;
  append_group(plan, rows, 45, {60, 1, 33, 17});
  append_group(plan, rows, 5, {});
  append_group(plan, rows, 64, {32, 70});
  return plan;
}

}  // namespace

TEST_CASE("attention over group-packed rows agrees with fp64 in value and gradients") {
  std::int32_t rows = 0;
  const AttentionPlan plan = two_groups(rows);
  for (const Heads& h : kHeads) check_plan_against_fp64(plan, rows, rows, h);
}

TEST_CASE("attention over windows sees every key of its window") {
  AttentionPlan plan;
  plan.causal = false;
  std::int32_t row = 0;
  for (const std::int32_t size : {4, 16, 8, 1, 64, 12}) {
    plan.spans.push_back({row, row + size, 0, 0, row, row + size});
    row += size;
  }
  for (const Heads& h : kHeads) check_plan_against_fp64(plan, row, row, h);
}

TEST_CASE(
    "decoding queries read a cache: key rows that are not query rows, prefixes that are shared, own keys "
    "that may be missing") {
  AttentionPlan plan;
  plan.spans = {{0, 1, 0, 40, 40, 47},  {1, 2, 0, 40, 60, 61},  {2, 3, 0, 40, 70, 103},  {3, 3, 0, 40, 0, 0},
                {3, 4, 5, 5, 110, 115}, {4, 5, 100, 110, 0, 0}, {5, 8, 20, 30, 115, 120}};
  for (const Heads& h : kHeads) check_plan_against_fp64(plan, 8, 120, h);
}

TEST_CASE("one long sequence is split over tasks") {
  AttentionPlan plan;
  plan.spans = {{0, 400, 0, 0, 0, 400}};
  check_plan_against_fp64(plan, 400, 400, {4, 2, 32});
  plan.causal = false;
  check_plan_against_fp64(plan, 400, 400, {2, 2, 24});
}

TEST_CASE("large scores do not overflow") {
  AttentionPlan plan;
  plan.spans = {{0, 50, 0, 0, 0, 50}};
  const at::Tensor q = random_tensor({50, 2, 32}, 1, 30.0f), k = random_tensor({50, 2, 32}, 2, 30.0f),
                   v = random_tensor({50, 2, 32}, 3);
  const at::Tensor out = attention(q, k, v, plan);
  // Scores reach some thousands, where fp32 resolves 2^-12: weights then err by that much.
  CHECK(relative_difference(
            out, reference::attention(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble), plan)) < 2e-3);
}

TEST_CASE("a query without keys yields zeros and no gradient") {
  AttentionPlan plan;
  plan.spans = {{0, 2, 0, 0, 0, 0}, {2, 4, 0, 0, 1, 2}};
  at::Tensor q = random_tensor({4, 2, 32}, 1).set_requires_grad(true);
  at::Tensor k = random_tensor({3, 1, 32}, 2).set_requires_grad(true),
             v = random_tensor({3, 1, 32}, 3).set_requires_grad(true);
  const at::Tensor out = attention(q, k, v, plan);
  CHECK(out.slice(0, 0, 3).abs().sum().item<float>() == 0.0f);
  CHECK(same_bits(out[3][0], v[1][0]));
  const std::vector<at::Tensor> grads = gradients(out, {q, k, v}, at::ones({4, 2, 32}));
  CHECK(grads[0].slice(0, 0, 3).abs().sum().item<float>() == 0.0f);
  // With one key its weight is always 1: two sums of 32 products of size 1, taken in different orders, are
  // subtracted.
  CHECK(grads[0][3].abs().max().item<float>() < 1e-5f);
  CHECK(grads[2].sum().item<float>() == 64.0f);
}

TEST_CASE("attention takes slices of a wider matrix") {
  AttentionPlan plan;
  plan.spans = {{0, 20, 0, 0, 0, 20}};
  const at::Tensor qkv = random_tensor({20, 3, 4, 24}, 5);
  const at::Tensor q = qkv.select(1, 0), k = qkv.select(1, 1), v = qkv.select(1, 2);
  CHECK(same_bits(attention(q, k, v, plan), attention(q.contiguous(), k.contiguous(), v.contiguous(), plan)));
}

TEST_CASE("attention of nothing is nothing, and spans must fit the rows") {
  const at::Tensor none = at::empty({0, 2, 32}), some = at::zeros({4, 2, 32});
  CHECK(attention(none, none, none, {}).sizes() == at::IntArrayRef({0, 2, 32}));
  CHECK_THROWS_AS(attention(some, some, some, {}), Error);
  AttentionPlan beyond;
  beyond.spans = {{0, 4, 0, 0, 0, 5}};
  CHECK_THROWS_AS(attention(some, some, some, beyond), Error);
}

}  // namespace ferro
