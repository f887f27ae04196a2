// GFLOP/s of the linear layer's three products against at::mm in the same run, and of attention against its
// own floor of products. Prints one line per shape: ours, LibTorch's, ratio. Usage: gemm_bench [threads]
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "model/aten.h"
#include "model/kernels/kernels.h"
#include "model/ops.h"
#include "tests/bench/bench_timing.h"
#include "tests/bench/panel_weights.h"

namespace ferro::bench {
namespace {

double fastest(const std::function<void()>& work) {
  return best_seconds(at::get_num_threads() == 1, work);
}

struct Shape {
  const char* name;
  std::int64_t in, out;
};
// The matrices of the benchmark models TINY and SMALL (width 128 and 512, vocabulary 2048).
const std::vector<Shape> kShapes{{"tiny q/o", 128, 128},    {"tiny gate/up", 128, 384},
                                 {"tiny down", 384, 128},   {"tiny head", 128, 2048},
                                 {"small q/o", 512, 512},   {"small gate/up", 512, 1536},
                                 {"small down", 1536, 512}, {"small head", 512, 2048}};

void print_pair(const Shape& s, std::int64_t rows, const char* what, double flops, double ours,
                double theirs) {
  fmt::print("{:14} {:5} x {:4} -> {:4}  {:9} {:8.1f} {:8.1f} {:7.2f}\n", s.name, rows, s.in, s.out, what,
             flops / ours / 1e9, flops / theirs / 1e9, theirs / ours);
}

void bench_linear(const Shape& s, std::int64_t rows) {
  const at::Tensor weight = at::randn({s.out, s.in}), x = at::randn({rows, s.in}),
                   grad = at::randn({rows, s.out});
  const at::Tensor transposed = weight.t(), grad_t = grad.t();
  LinearWeights w = panels_of(weight);
  at::Tensor y = at::empty({rows, s.out}), dx = at::empty({rows, s.in}), dw = at::zeros({s.out, s.in});
  const double flops = 2.0 * static_cast<double>(rows * s.in * s.out);
  print_pair(s, rows, "forward", flops, fastest([&] { linear(x, w); }),
             fastest([&] { at::mm_out(y, x, transposed); }));
  if (rows < 32) return;
  const kernels::Kernels& set = kernels::best();
  const int threads = at::get_num_threads();
  print_pair(s, rows, "d input", flops, fastest([&] {
               set.linear_backward_input({grad.const_data_ptr<float>(), rows, s.out, s.out},
                                         w.weight.value.const_data_ptr<float>(),
                                         {dx.mutable_data_ptr<float>(), rows, s.in, s.in}, false, threads);
             }),
             fastest([&] { at::mm_out(dx, grad, weight); }));
  print_pair(s, rows, "d weight", flops, fastest([&] { linear_backward(x, grad, w, false); }),
             fastest([&] { dw.addmm_(grad_t, x); }));
}

/// Multiply-adds of the query-key pairs, times two products of 2 E operations each.
double attention_flops(const AttentionPlan& plan, std::int64_t heads, std::int64_t width) {
  double pairs = 0;
  for (const AttentionSpan& s : plan.spans)
    for (std::int32_t i = s.query_begin; i < s.query_end; ++i)
      pairs += (s.prefix_end - s.prefix_begin) + (s.key_end - s.key_begin) -
               (plan.causal ? s.query_end - 1 - i : 0);
  return pairs * static_cast<double>(heads) * static_cast<double>(width) * 4.0;
}

void bench_attention(const char* name, const AttentionPlan& plan, std::int64_t rows, std::int64_t keys,
                     std::int64_t heads, std::int64_t kv_heads, std::int64_t width, bool backward) {
  at::Tensor q = at::randn({rows, heads, width}), k = at::randn({keys, kv_heads, width}),
             v = at::randn({keys, kv_heads, width});
  const double flops = attention_flops(plan, heads, width);
  const double forward = fastest([&] { attention(q, k, v, plan); });
  fmt::print("{:34} forward  {:8.1f} GFLOP/s {:9.3f} ms\n", name, flops / forward / 1e9, forward * 1e3);
  if (!backward) return;
  const at::Tensor grad = at::randn({rows, heads, width});
  for (at::Tensor* t : {&q, &k, &v}) t->set_requires_grad(true);
  const double both = fastest([&] { torch::autograd::grad({attention(q, k, v, plan)}, {q, k, v}, {grad}); });
  fmt::print("{:34} backward {:8.1f} GFLOP/s {:9.3f} ms\n", name, 2.5 * flops / (both - forward) / 1e9,
             (both - forward) * 1e3);
}

void bench_attention_cases() {
  AttentionPlan packed, decode, windows;
  std::int32_t row = 0, queries = 0;
  for (int prompt = 0; prompt < 24; ++prompt) {
    const std::int32_t begin = row;
    packed.spans.push_back({row, row + 45, 0, 0, row, row + 45});
    row += 45;
    for (int answer = 0; answer < 8; ++answer, row += 60, ++queries) {
      packed.spans.push_back({row, row + 60, begin, begin + 45, row, row + 60});
      decode.spans.push_back({queries, queries + 1, begin, begin + 45, row, row + 30});
    }
  }
  bench_attention("24 prompts x (45 + 8 x 60), E 32", packed, row, row, 4, 2, 32, true);
  bench_attention("decode 192 queries of 75 keys, E 32", decode, queries, row, 4, 2, 32, false);
  bench_attention("the packed batch, 16/2 heads, E 128", packed, row, row, 16, 2, 128, true);
  windows.causal = false;
  std::int32_t patch = 0;
  for (int i = 0; i < 96; ++i, patch += 16)
    windows.spans.push_back({patch, patch + 16, 0, 0, patch, patch + 16});
  bench_attention("96 windows of 16, E 24", windows, patch, patch, 4, 4, 24, true);
}

}  // namespace
}  // namespace ferro::bench

int main(int argc, char** argv) {
  if (argc > 1) at::set_num_threads(std::atoi(argv[1]));
  at::manual_seed(1);
  fmt::print("{}, kernels {}, {} threads, load {}\n", ferro::bench::processor_name(),
             ferro::kernels::best().name, at::get_num_threads(), ferro::bench::load_average());
  const at::NoGradGuard no_graph;
  fmt::print("{:14} {:21}  {:9} {:>8} {:>8} {:>7}\n", "matrix", "rows x in -> out", "product", "ours",
             "at::mm", "ratio");
  for (const ferro::bench::Shape& s : ferro::bench::kShapes)
    for (const std::int64_t rows : {1, 8, 32, 1024}) ferro::bench::bench_linear(s, rows);
  const at::AutoGradMode graph(true);
  ferro::bench::bench_attention_cases();
  return 0;
}
