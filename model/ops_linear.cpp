#include <algorithm>
#include <optional>

#include "model/autograd_node.h"
#include "model/kernel_views.h"
#include "model/linear_parts.h"
#include "model/low_rank.h"
#include "model/ops.h"
#include "model/reference_ops.h"

namespace ferro {
namespace {

void check_linear(const at::Tensor& x, const LinearWeights& w) {
  FERRO_CHECK(x.dim() == 2 && x.size(1) == w.in, "linear: x has shape [{}], the layer takes rows of {}",
              fmt::join(x.sizes(), ", "), w.in);
  FERRO_CHECK(!in_panels(w) || on_kernels(x), "linear: weights in panels take fp32 on the CPU, got {} on {}",
              c10::toString(x.scalar_type()), x.device().str());
}

/// With the residual added unless it is undefined.
at::Tensor linear_values(const at::Tensor& x, const LinearWeights& w, const at::Tensor& residual = {}) {
  if (!in_panels(w)) {
    const at::Tensor y = reference::linear(x, w.weight.value, w.bias.value);
    return residual.defined() ? residual + y : y;
  }
  const at::Tensor rows = as_rows(x), beside = residual.defined() ? as_rows(residual) : residual;
  at::Tensor y = at::empty({rows.size(0), w.out}, x.options());
  kernels::best().linear_forward(const_matrix(rows), w.weight.value.const_data_ptr<float>(), bias_of(w),
                                 beside.defined() ? const_matrix(beside) : kernels::ConstMatrix{}, matrix(y),
                                 kernel_threads());
  return y;
}

void add_weight_gradients(const at::Tensor& x, const at::Tensor& grad_y, const LinearWeights& w) {
  const bool weight = w.weight.grad.defined(), bias = w.bias.grad.defined();
  if (weight && in_panels(w)) {
    kernels::best().linear_backward_weight(
        const_matrix(x), const_matrix(grad_y), w.weight.grad.mutable_data_ptr<float>(),
        bias ? w.bias.grad.mutable_data_ptr<float>() : nullptr, kernel_threads());
    return;
  }
  at::Tensor weight_grad = w.weight.grad, bias_grad = w.bias.grad;
  if (weight) weight_grad.addmm_(grad_y.t(), x);
  if (bias) bias_grad.add_(grad_y.sum(0));
}

at::Tensor input_gradient(const at::Tensor& grad_y, const LinearWeights& w) {
  if (!in_panels(w)) return grad_y.mm(w.weight.value);
  at::Tensor dx = at::empty({grad_y.size(0), w.in}, grad_y.options());
  put_input_gradient(grad_y, w, dx, false);
  return dx;
}

/// Backward of the base layer; `x` may be undefined where nothing but dL/dx is wanted.
at::Tensor base_backward(const at::Tensor& x, const at::Tensor& grad_y, const LinearWeights& w,
                         bool need_input) {
  if (w.weight.grad.defined() || w.bias.grad.defined()) {
    if (in_panels(w)) {
      add_weight_gradients(as_rows(x), as_rows(grad_y), w);
    } else {
      add_weight_gradients(x, grad_y, w);
    }
  }
  return need_input ? input_gradient(grad_y, w) : at::Tensor();
}

/// A layer with nothing to train does not keep its input.
bool keeps_input(const LinearWeights& w) {
  return w.weight.grad.defined() || w.bias.grad.defined() || w.adapter != nullptr;
}

class LinearNode final : public OpNode {
 public:
  LinearNode(LinearWeights w, LowRankRecord record) : w_(std::move(w)), record_(std::move(record)) {}
  explicit LinearNode(LinearWeights w) : w_(std::move(w)), onto_residual_(true) {}
  std::string name() const override { return "ferro::linear"; }
  void release_variables() override {
    OpNode::release_variables();
    record_ = {};
  }
  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    if (!grads[0].defined()) return none();
    const at::NoGradGuard no_graph;
    const at::Tensor x = keeps_input(w_) ? saved(0) : at::Tensor();
    at::Tensor dx = base_backward(x, grads[0], w_, task_should_compute_output(0));
    if (w_.adapter) low_rank_backward(x, grads[0], *w_.adapter, record_, dx);
    if (onto_residual_) return {dx, grads[0]};
    return {dx};
  }

 private:
  torch::autograd::variable_list none() const { return torch::autograd::variable_list(num_outputs()); }

  LinearWeights w_;
  LowRankRecord record_;
  bool onto_residual_ = false;  ///< The second input is added to the rows.
};

void check_ids(std::span<const std::int32_t> ids, const LinearWeights& table) {
  for (const std::int32_t id : ids)
    FERRO_CHECK(id >= 0 && id < table.out, "embedding: id {} is outside the vocabulary of {}", id, table.out);
}

}  // namespace

bool in_panels(const LinearWeights& w) {
  return w.weight.value.dim() == 3;
}

const float* bias_of(const LinearWeights& w) {
  return w.bias.value.defined() ? w.bias.value.const_data_ptr<float>() : nullptr;
}

void put_input_gradient(const at::Tensor& grad_y, const LinearWeights& w, at::Tensor& dx, bool accumulate) {
  kernels::best().linear_backward_input(const_matrix(as_rows(grad_y)), w.weight.value.const_data_ptr<float>(),
                                        matrix(dx), accumulate, kernel_threads());
}

at::Tensor linear(const at::Tensor& x, const LinearWeights& w) {
  check_linear(x, w);
  const bool recorded = records({x});
  at::Tensor y;
  LowRankRecord record;
  {
    const at::NoGradGuard no_graph;
    y = linear_values(x, w);
    if (w.adapter) record = add_low_rank(x, *w.adapter, y);
  }
  if (!recorded) return y;
  auto node = make_node<LinearNode>(w, std::move(record));
  if (keeps_input(w)) return attach(std::move(node), std::move(y), x);
  return attach_unsaved(std::move(node), std::move(y), x);
}

at::Tensor linear_onto(const at::Tensor& residual, const at::Tensor& x, const LinearWeights& w) {
  check_linear(x, w);
  FERRO_CHECK(residual.dim() == 2 && residual.size(0) == x.size(0) && residual.size(1) == w.out,
              "linear_onto: rows of shape [{}] beside {} of {}", fmt::join(residual.sizes(), ", "), x.size(0),
              w.out);
  if (w.adapter) return residual + linear(x, w);
  const bool recorded = records({x, residual});
  at::Tensor y;
  {
    const at::NoGradGuard no_graph;
    y = linear_values(x, w, residual);
  }
  if (!recorded) return y;
  auto node = make_node<LinearNode>(w);
  if (keeps_input(w)) node->save(x);
  return attach_unsaved(std::move(node), std::move(y), x, residual);
}

at::Tensor linear_backward(const at::Tensor& x, const at::Tensor& grad_y, const LinearWeights& w,
                           bool need_input) {
  check_linear(x, w);
  FERRO_CHECK(grad_y.dim() == 2 && grad_y.size(0) == x.size(0) && grad_y.size(1) == w.out,
              "linear_backward: gradient of shape [{}] for {} rows of {}", fmt::join(grad_y.sizes(), ", "),
              x.size(0), w.out);
  const at::NoGradGuard no_graph;
  at::Tensor dx = base_backward(x, grad_y, w, need_input);
  if (w.adapter) low_rank_backward(x, grad_y, *w.adapter, low_rank_record(x, *w.adapter), dx);
  return dx;
}

at::Tensor embedding(std::span<const std::int32_t> ids, const LinearWeights& table) {
  check_ids(ids, table);
  const at::NoGradGuard no_graph;
  if (!in_panels(table))
    return table.weight.value.index_select(0, reference::index_tensor(ids, table.weight.value.device()));
  at::Tensor y = at::empty({static_cast<std::int64_t>(ids.size()), table.in}, table.weight.value.options());
  kernels::best().gather_rows(ids.data(), table.weight.value.const_data_ptr<float>(), matrix(y),
                              kernel_threads());
  return y;
}

void embedding_backward(std::span<const std::int32_t> ids, const at::Tensor& grad, const LinearWeights& table,
                        std::span<const std::uint8_t> skip) {
  if (!table.weight.grad.defined()) return;
  const auto rows = static_cast<std::int64_t>(ids.size());
  FERRO_CHECK(grad.dim() == 2 && grad.size(0) == rows && grad.size(1) == table.in,
              "embedding_backward: gradient of shape [{}] for {} ids of width {}",
              fmt::join(grad.sizes(), ", "), rows, table.in);
  FERRO_CHECK(skip.empty() || skip.size() == ids.size(), "embedding_backward: {} skip marks for {} ids",
              skip.size(), rows);
  check_ids(ids, table);
  const at::NoGradGuard no_graph;
  if (in_panels(table)) {
    kernels::best().scatter_add_rows(ids.data(), skip.empty() ? nullptr : skip.data(),
                                     const_matrix(as_rows(grad)), table.weight.grad.mutable_data_ptr<float>(),
                                     kernel_threads());
    return;
  }
  at::Tensor kept = grad;
  if (!skip.empty()) {
    std::vector<std::int32_t> marks(skip.begin(), skip.end());
    kept = grad.masked_fill(reference::index_tensor(marks, grad.device()).ne(0).unsqueeze(1), 0.0);
  }
  at::Tensor table_grad = table.weight.grad;
  table_grad.index_add_(0, reference::index_tensor(ids, grad.device()), kept);
}

}  // namespace ferro
