#include "model/autograd_node.h"
#include "model/kernel_views.h"
#include "model/ops.h"
#include "model/reference_ops.h"

namespace ferro {
namespace {

using torch::autograd::variable_list;

void check_plan(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionPlan& plan) {
  FERRO_CHECK(q.dim() == 3 && k.dim() == 3 && k.sizes() == v.sizes() && q.size(2) == k.size(2) &&
                  k.size(1) > 0 && q.size(1) % k.size(1) == 0,
              "attention: q [{}], k [{}], v [{}]", fmt::join(q.sizes(), ", "), fmt::join(k.sizes(), ", "),
              fmt::join(v.sizes(), ", "));
  std::int64_t next = 0;
  for (const AttentionSpan& s : plan.spans) {
    FERRO_CHECK(s.query_begin == next && s.query_end >= s.query_begin,
                "attention: queries [{}, {}) follow row {}", s.query_begin, s.query_end, next);
    next = s.query_end;
    FERRO_CHECK(s.prefix_begin >= 0 && s.prefix_end <= k.size(0) && s.prefix_begin <= s.prefix_end &&
                    s.key_begin >= 0 && s.key_end <= k.size(0) && s.key_begin <= s.key_end,
                "attention: keys [{}, {}) and [{}, {}) of {} rows", s.prefix_begin, s.prefix_end, s.key_begin,
                s.key_end, k.size(0));
  }
  FERRO_CHECK(next == q.size(0), "attention: spans cover {} of {} queries", next, q.size(0));
}

struct Job {
  std::vector<kernels::SpanView> spans;
  kernels::AttentionShape shape;
};

/// `job.shape` points into `job.spans`.
void describe(const at::Tensor& q, const at::Tensor& k, const AttentionPlan& plan, Job& job) {
  job.spans.reserve(plan.spans.size());
  for (const AttentionSpan& s : plan.spans)
    job.spans.push_back({s.query_begin, s.query_end, s.prefix_begin, s.prefix_end, s.key_begin, s.key_end});
  job.shape = {q.size(1),   k.size(1),        q.size(2),
               plan.causal, job.spans.data(), static_cast<std::int64_t>(job.spans.size()),
               q.size(0),   k.size(0)};
}

class AttentionNode final : public OpNode {
 public:
  AttentionNode(AttentionPlan plan, at::Tensor out, at::Tensor stats)
      : plan_(std::move(plan)), out_(std::move(out)), stats_(std::move(stats)) {}
  std::string name() const override { return "ferro::attention"; }
  void release_variables() override {
    OpNode::release_variables();
    out_.reset();
    stats_.reset();
  }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const at::NoGradGuard no_graph;
    const at::Tensor q = as_heads(saved(0)), k = as_heads(saved(1)), v = as_heads(saved(2)),
                     grad = grads[0].contiguous();
    Job job;
    describe(q, k, plan_, job);
    at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
               dv = at::empty(v.sizes(), v.options());
    kernels::best().attention_backward(
        job.shape, const_heads(q), const_heads(k), const_heads(v), out_.const_data_ptr<float>(),
        stats_.const_data_ptr<float>(), grad.const_data_ptr<float>(), dq.mutable_data_ptr<float>(),
        dk.mutable_data_ptr<float>(), dv.mutable_data_ptr<float>(), kernel_threads());
    return {dq, dk, dv};
  }

 private:
  AttentionPlan plan_;
  at::Tensor out_, stats_;
};

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionPlan& plan) {
  check_plan(q, k, v, plan);
  if (!on_kernels(q)) return reference::attention(q, k, v, plan);
  const bool graph = records({q, k, v});
  at::Tensor out, stats;
  {
    const at::NoGradGuard no_graph;
    const at::Tensor queries = as_heads(q), keys = as_heads(k), values = as_heads(v);
    Job job;
    describe(q, k, plan, job);
    out = at::empty(q.sizes(), q.options());
    if (graph) stats = at::empty({q.size(0), q.size(1), 2}, q.options());
    kernels::best().attention_forward(job.shape, const_heads(queries), const_heads(keys), const_heads(values),
                                      out.mutable_data_ptr<float>(),
                                      graph ? stats.mutable_data_ptr<float>() : nullptr, kernel_threads());
  }
  if (!graph) return out;
  auto node = make_node<AttentionNode>(plan, out.detach(), stats);
  return attach(std::move(node), std::move(out), q, k, v);
}

}  // namespace ferro
