#include <algorithm>
#include <functional>

#include "model/autograd_node.h"
#include "model/kernel_views.h"
#include "model/ops.h"
#include "model/reference_ops.h"

namespace ferro {
namespace {

using torch::autograd::variable_list;

/// A fresh contiguous tensor of x's shape, and its view as rows.
at::Tensor like(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options());
}
at::Tensor flat(const at::Tensor& x) {
  return x.view({-1, x.size(-1)});
}

class RmsNormNode final : public OpNode {
 public:
  RmsNormNode(Param weight, double eps, at::Tensor inverse)
      : weight_(std::move(weight)), eps_(eps), inverse_(std::move(inverse)) {}
  std::string name() const override { return "ferro::rms_norm"; }
  void release_variables() override {
    OpNode::release_variables();
    inverse_.reset();
  }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::NoGradGuard no_graph;
    const at::Tensor x = saved(0);
    return {on_kernels(x) ? from_kernels(x, grads[0]) : from_aten(x, grads[0])};
  }

 private:
  at::Tensor from_kernels(const at::Tensor& x, const at::Tensor& grad) const {
    at::Tensor dx = like(x);
    if (x.numel() == 0) return dx;
    const at::Tensor rows = as_rows(x), dy = as_rows(grad);
    kernels::best().rms_norm_backward(
        const_matrix(rows), weight_.value.const_data_ptr<float>(), inverse_.const_data_ptr<float>(),
        const_matrix(dy), {}, matrix(flat(dx)),
        weight_.grad.defined() ? weight_.grad.mutable_data_ptr<float>() : nullptr, kernel_threads());
    return dx;
  }
  at::Tensor from_aten(const at::Tensor& x, const at::Tensor& grad) const {
    const at::Tensor inverse = at::rsqrt(x.square().mean({-1}, true) + eps_);
    const at::Tensor weighted = grad * weight_.value;
    at::Tensor weight_grad = weight_.grad;
    if (weight_grad.defined()) weight_grad.add_((grad * x * inverse).reshape({-1, x.size(-1)}).sum(0));
    return weighted * inverse - x * inverse.pow(3) * (weighted * x).mean({-1}, true);
  }

  Param weight_;
  double eps_;
  at::Tensor inverse_;
};

class SwigluNode final : public OpNode {
 public:
  std::string name() const override { return "ferro::swiglu"; }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::NoGradGuard no_graph;
    const at::Tensor gate = saved(0), up = saved(1);
    at::Tensor dgate = like(gate), dup = like(up);
    if (gate.numel() == 0) return {dgate, dup};
    kernels::best().swiglu_backward(const_matrix(as_rows(gate)), const_matrix(as_rows(up)),
                                    const_matrix(as_rows(grads[0])), matrix(flat(dgate)), matrix(flat(dup)),
                                    {}, kernel_threads());
    return {dgate, dup};
  }
};

class GeluNode final : public OpNode {
 public:
  std::string name() const override { return "ferro::gelu"; }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::NoGradGuard no_graph;
    const at::Tensor x = saved(0);
    at::Tensor dx = like(x);
    if (x.numel() == 0) return {dx};
    kernels::best().gelu_backward(const_matrix(as_rows(x)), const_matrix(as_rows(grads[0])), matrix(flat(dx)),
                                  kernel_threads());
    return {dx};
  }
};

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  at::Tensor y = like(x);
  const at::Tensor heads = as_heads(x);
  kernels::best().rotary(const_heads(heads), x.size(0), x.size(1), x.size(2), cos.const_data_ptr<float>(),
                         sin.const_data_ptr<float>(), inverse, y.mutable_data_ptr<float>(), y.stride(0),
                         kernel_threads());
  return y;
}

class RotaryNode final : public OpNode {
 public:
  RotaryNode(at::Tensor cos, at::Tensor sin) : cos_(std::move(cos)), sin_(std::move(sin)) {}
  std::string name() const override { return "ferro::rotary"; }
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::NoGradGuard no_graph;
    return {rotated(grads[0], cos_, sin_, true)};
  }

 private:
  at::Tensor cos_, sin_;
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const Param& weight, double eps) {
  FERRO_CHECK(x.dim() >= 1 && weight.value.dim() == 1 && x.size(-1) == weight.value.size(0),
              "rms_norm: x of shape [{}], weight of shape [{}]", fmt::join(x.sizes(), ", "),
              fmt::join(weight.value.sizes(), ", "));
  const bool graph = records({x});
  at::Tensor y, inverse;
  {
    const at::NoGradGuard no_graph;
    if (!on_kernels(x)) {
      y = reference::rms_norm(x, weight.value, eps);
    } else {
      const at::Tensor rows = as_rows(x);
      y = like(x);
      if (graph) inverse = at::empty({rows.size(0)}, x.options());
      if (x.numel() > 0)
        kernels::best().rms_norm_forward(
            const_matrix(rows), weight.value.const_data_ptr<float>(), static_cast<float>(eps),
            matrix(flat(y)), graph ? inverse.mutable_data_ptr<float>() : nullptr, kernel_threads());
    }
  }
  return graph ? attach(make_node<RmsNormNode>(weight, eps, std::move(inverse)), std::move(y), x) : y;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  FERRO_CHECK(gate.sizes() == up.sizes(), "swiglu: gate of shape [{}], up of shape [{}]",
              fmt::join(gate.sizes(), ", "), fmt::join(up.sizes(), ", "));
  if (!on_kernels(gate)) return reference::swiglu(gate, up);
  const bool graph = records({gate, up});
  at::Tensor y = like(gate.detach());
  if (y.numel() > 0)
    kernels::best().swiglu_forward(const_matrix(as_rows(gate.detach())), const_matrix(as_rows(up.detach())),
                                   matrix(flat(y)), kernel_threads());
  return graph ? attach(make_node<SwigluNode>(), std::move(y), gate, up) : y;
}

at::Tensor gelu(const at::Tensor& x) {
  if (!on_kernels(x)) return reference::gelu(x);
  const bool graph = records({x});
  at::Tensor y = like(x.detach());
  if (y.numel() > 0)
    kernels::best().gelu_forward(const_matrix(as_rows(x.detach())), matrix(flat(y)), kernel_threads());
  return graph ? attach(make_node<GeluNode>(), std::move(y), x) : y;
}

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  FERRO_CHECK(x.dim() == 3 && x.size(2) % 2 == 0 && cos.dim() == 2 && cos.size(0) == x.size(0) &&
                  cos.size(1) == x.size(2) && cos.sizes() == sin.sizes(),
              "rotary: x of shape [{}], tables of shape [{}] and [{}]", fmt::join(x.sizes(), ", "),
              fmt::join(cos.sizes(), ", "), fmt::join(sin.sizes(), ", "));
  if (!on_kernels(x)) return reference::rotary(x, cos, sin);
  const at::Tensor c = cos.contiguous(), s = sin.contiguous();
  at::Tensor y = rotated(x.detach(), c, s, false);
  if (!records({x})) return y;
  auto node = make_node<RotaryNode>(c, s);
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  torch::autograd::create_gradient_edge(y, std::shared_ptr<torch::autograd::Node>(std::move(node)));
  return y;
}

namespace {

void check_tokens(const at::Tensor& logits, std::span<const std::int32_t> tokens, double temperature,
                  std::span<const std::int32_t> banned_ids, std::span<const std::int32_t> begins) {
  const auto count = static_cast<std::int64_t>(begins.empty() ? tokens.size() : begins.size() - 1);
  FERRO_CHECK(logits.dim() == 2 && logits.size(0) == count,
              "token_logprobs: logits of shape [{}] for {} tokens in {} rows",
              fmt::join(logits.sizes(), ", "), tokens.size(), count);
  FERRO_CHECK(temperature > 0, "token_logprobs: temperature {} is not positive", temperature);
  for (const std::span<const std::int32_t> ids : {tokens, banned_ids})
    for (const std::int32_t id : ids)
      FERRO_CHECK(id >= 0 && id < logits.size(1), "token_logprobs: id {} is outside the vocabulary of {}", id,
                  logits.size(1));
  if (begins.empty()) return;
  FERRO_CHECK(begins.front() == 0 && begins.back() == static_cast<std::int32_t>(tokens.size()) &&
                  std::is_sorted(begins.begin(), begins.end(), std::less_equal<>()),
              "token_logprobs: rows without tokens, or tokens without rows");
}

/// By ATen: a copy of a row for each of its tokens.
std::vector<TokenLogprob> logprobs_from_aten(at::Tensor& logits, std::span<const std::int32_t> tokens,
                                             double temperature, std::span<const std::int32_t> banned_ids,
                                             std::span<const std::int32_t> begins) {
  at::Tensor rows = logits, firsts;
  if (!begins.empty()) {
    std::vector<std::int32_t> row_of_token;
    for (std::size_t r = 0; r + 1 < begins.size(); ++r)
      row_of_token.resize(static_cast<std::size_t>(begins[r + 1]), static_cast<std::int32_t>(r));
    rows = logits.index_select(0, reference::index_tensor(row_of_token, logits.device()));
    firsts = reference::index_tensor(begins.first(begins.size() - 1), logits.device());
  }
  const reference::TokenDistribution d = reference::token_distribution(rows, tokens, temperature, banned_ids);
  const at::Tensor tokens_N1 = reference::index_tensor(tokens, logits.device()).to(at::kLong).unsqueeze(1);
  const at::Tensor largest_N =
      d.probabilities_NV.gather(1, tokens_N1).squeeze(1) >= d.probabilities_NV.amax(1);
  logits.copy_(firsts.defined() ? d.probabilities_NV.index_select(0, firsts) : d.probabilities_NV);
  const at::Tensor all =
      at::stack({d.logprobs_N.to(at::kFloat), d.entropies_N.to(at::kFloat), largest_N.to(at::kFloat)})
          .cpu()
          .contiguous();
  const float* values = all.const_data_ptr<float>();
  std::vector<TokenLogprob> out(tokens.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = {values[i], values[out.size() + i], values[2 * out.size() + i] != 0};
  return out;
}

}  // namespace

std::vector<TokenLogprob> token_logprobs(at::Tensor& logits, std::span<const std::int32_t> tokens,
                                         double temperature, std::span<const std::int32_t> banned_ids,
                                         std::span<const std::int32_t> begins) {
  check_tokens(logits, tokens, temperature, banned_ids, begins);
  const at::NoGradGuard no_graph;
  if (!on_kernels(logits) || logits.stride(1) != 1)
    return logprobs_from_aten(logits, tokens, temperature, banned_ids, begins);
  std::vector<TokenLogprob> out(tokens.size());
  std::vector<kernels::TokenRow> rows(tokens.size());
  kernels::best().token_logprobs(matrix(logits), tokens.data(), begins.empty() ? nullptr : begins.data(),
                                 static_cast<float>(temperature), banned_ids.data(),
                                 static_cast<std::int64_t>(banned_ids.size()), rows.data(), kernel_threads());
  for (std::size_t i = 0; i < rows.size(); ++i)
    out[i] = {rows[i].logprob, rows[i].entropy, rows[i].is_largest};
  return out;
}

}  // namespace ferro
