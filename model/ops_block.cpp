#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "model/autograd_node.h"
#include "model/block_ops.h"
#include "model/kernel_views.h"
#include "model/linear_parts.h"

namespace ferro {
namespace {

using torch::autograd::variable_list;
using Layers = std::span<const LinearWeights* const>;

/// Fewer rows do not fill every thread with a chunk: there the steps run one after the other, each in
/// parallel over its columns.
constexpr std::int64_t kRowsPerThread = 48;

bool by_chunks(const at::Tensor& rows) {
  return rows.size(0) >= kRowsPerThread * kernel_threads();
}

bool fuses(const at::Tensor& hidden, Layers layers) {
  return hidden.dim() == 2 && on_kernels(hidden) &&
         std::all_of(layers.begin(), layers.end(),
                     [](const LinearWeights* w) { return in_panels(*w) && w->adapter == nullptr; });
}

void check_rows(const at::Tensor& hidden, const Param& norm, Layers layers) {
  const bool fit = hidden.dim() == 2 && norm.value.dim() == 1 && norm.value.size(0) == hidden.size(1) &&
                   std::all_of(layers.begin(), layers.end(),
                               [&](const LinearWeights* w) { return w->in == hidden.size(1); });
  FERRO_CHECK(fit, "rows of shape [{}] do not fit a block's norm or layers", fmt::join(hidden.sizes(), ", "));
}

const float* data(const at::Tensor& t) {
  return t.const_data_ptr<float>();
}

kernels::LinearPart part_of(const LinearWeights& w, const kernels::Matrix& y) {
  return {data(w.weight.value), bias_of(w), w.in, w.out, y};
}

at::Tensor rows_of(std::int64_t rows, std::int64_t cols, const at::Tensor& like) {
  return at::empty({rows, cols}, like.options());
}

/// A norm at the head of several layers: what its forward and backward need.
struct Norm {
  Param weight;
  double eps = 0;

  float epsilon() const { return static_cast<float>(eps); }
  at::Tensor rows(const at::Tensor& x, float* inverse) const {
    at::Tensor normed = rows_of(x.size(0), x.size(1), x);
    if (x.numel() > 0)
      kernels::best().rms_norm_forward(const_matrix(x), data(weight.value), epsilon(), matrix(normed),
                                       inverse, kernel_threads());
    return normed;
  }
  /// `grad` of the normed rows becomes the gradient of x, with the residual's (undefined: none) added.
  void backward(const at::Tensor& x, const at::Tensor& inverse, const at::Tensor& residual,
                const at::Tensor& grad) const {
    if (x.numel() == 0) return;
    kernels::best().rms_norm_backward(
        const_matrix(x), data(weight.value), data(inverse), const_matrix(grad),
        residual.defined() ? const_matrix(residual) : kernels::ConstMatrix{}, matrix(grad),
        weight.grad.defined() ? weight.grad.mutable_data_ptr<float>() : nullptr, kernel_threads());
  }
};

bool has_gradients(const LinearWeights& w) {
  return w.weight.grad.defined() || w.bias.grad.defined();
}

/// Adds to the gradients of a layer that is trained; `x` may be undefined for others.
void add_layer_gradients(const at::Tensor& x, const at::Tensor& grad_y, const LinearWeights& w) {
  if (has_gradients(w)) linear_backward(x, grad_y, w, false);
}

/// What the forward of the gated part leaves.
struct GatedRows {
  at::Tensor inverse, gate, up;  ///< Undefined where nothing is kept.
};

at::Tensor gated_values(const at::Tensor& x, const Norm& norm, const GatedMlpWeights& w, GatedRows* keep) {
  const std::int64_t rows = x.size(0), inner = w.gate.out;
  GatedRows own;
  const bool chunked = by_chunks(x);
  if (keep != nullptr) own.inverse = at::empty({rows}, x.options());
  if (keep != nullptr || !chunked) {
    own.gate = rows_of(rows, inner, x);
    own.up = rows_of(rows, inner, x);
  }
  float* inverse = keep != nullptr ? own.inverse.mutable_data_ptr<float>() : nullptr;
  at::Tensor y = rows_of(rows, w.down.out, x);
  const kernels::Kernels& set = kernels::best();
  const int threads = kernel_threads();
  if (chunked) {
    set.gated_mlp_forward(const_matrix(x), data(norm.weight.value), norm.epsilon(),
                          part_of(w.gate, keep != nullptr ? matrix(own.gate) : kernels::Matrix{}),
                          part_of(w.up, keep != nullptr ? matrix(own.up) : kernels::Matrix{}),
                          part_of(w.down, matrix(y)), inverse, threads);
  } else {
    const at::Tensor normed = norm.rows(x, inverse);
    at::Tensor gated = keep != nullptr ? rows_of(rows, inner, x) : own.gate;
    set.linear_forward(const_matrix(normed), data(w.gate.weight.value), bias_of(w.gate), {}, matrix(own.gate),
                       threads);
    set.linear_forward(const_matrix(normed), data(w.up.weight.value), bias_of(w.up), {}, matrix(own.up),
                       threads);
    set.swiglu_forward(const_matrix(own.gate), const_matrix(own.up), matrix(gated), threads);
    set.linear_forward(const_matrix(gated), data(w.down.weight.value), bias_of(w.down), const_matrix(x),
                       matrix(y), threads);
  }
  if (keep != nullptr) *keep = std::move(own);
  return y;
}

class GatedMlpNode final : public OpNode {
 public:
  GatedMlpNode(Norm norm, GatedMlpWeights w, GatedRows kept)
      : norm_(std::move(norm)), w_(std::move(w)), kept_(std::move(kept)) {}
  std::string name() const override { return "ferro::gated_mlp"; }
  void release_variables() override {
    OpNode::release_variables();
    kept_ = {};
  }
  /// Gate and up become their gradients where they lie.
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::NoGradGuard no_graph;
    const at::Tensor x = as_rows(saved(0)), grad = as_rows(grads[0]);
    const GatedRows kept = std::exchange(kept_, {});
    TORCH_CHECK(kept.gate.defined(), "a second backward through ", name());
    at::Tensor inner = rows_of(x.size(0), w_.gate.out, x), dx = rows_of(x.size(0), x.size(1), x);
    put_input_gradient(grad, w_.down, inner, false);
    kernels::best().swiglu_backward(const_matrix(kept.gate), const_matrix(kept.up), const_matrix(inner),
                                    matrix(kept.gate), matrix(kept.up), matrix(inner), kernel_threads());
    add_layer_gradients(inner, grad, w_.down);
    inner.reset();
    if (has_gradients(w_.gate) || has_gradients(w_.up)) {
      const at::Tensor normed = norm_.rows(x, nullptr);
      add_layer_gradients(normed, kept.gate, w_.gate);
      add_layer_gradients(normed, kept.up, w_.up);
    }
    put_input_gradient(kept.gate, w_.gate, dx, false);
    put_input_gradient(kept.up, w_.up, dx, true);
    norm_.backward(x, kept.inverse, grad, dx);
    return {dx};
  }

 private:
  Norm norm_;
  GatedMlpWeights w_;
  GatedRows kept_;
};

}  // namespace

at::Tensor gated_mlp_onto(const at::Tensor& hidden, const Param& norm, double eps, const GatedMlpWeights& w) {
  const std::array<const LinearWeights*, 3> layers{&w.gate, &w.up, &w.down};
  check_rows(hidden, norm, Layers(layers).first(2));
  FERRO_CHECK(w.up.out == w.gate.out && w.down.in == w.gate.out && w.down.out == hidden.size(1),
              "a gated layer of {} and {} inner columns, {} to {}", w.gate.out, w.up.out, w.down.in,
              w.down.out);
  if (!fuses(hidden, layers)) {
    const at::Tensor normed = rms_norm(hidden, norm, eps);
    return linear_onto(hidden, swiglu(linear(normed, w.gate), linear(normed, w.up)), w.down);
  }
  const bool graph = records({hidden});
  const Norm first{norm, eps};
  GatedRows kept;
  at::Tensor y;
  {
    const at::NoGradGuard no_graph;
    y = gated_values(as_rows(hidden), first, w, graph ? &kept : nullptr);
  }
  if (!graph) return y;
  return attach(make_node<GatedMlpNode>(first, w, std::move(kept)), std::move(y), hidden);
}

namespace {

/// Where q, k and v lie in the rows of the layers.
using Three = std::array<at::Tensor, 3>;
Three views(const std::vector<at::Tensor>& rows, const AttentionHeads& h) {
  const std::array<std::int64_t, 3> heads{h.heads, h.kv_heads, h.kv_heads};
  Three parts;
  std::int64_t column = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t width = heads[i] * h.head_dim;
    const at::Tensor part = rows.size() == 3 ? rows[i] : rows[0].narrow(1, column, width);
    parts[i] = part.view({part.size(0), heads[i], h.head_dim});
    column += width;
  }
  return parts;
}

struct Angles {
  at::Tensor cos, sin;
  /// `to` may be `from`; both rows of heads.
  void turn(const at::Tensor& from, const at::Tensor& to, bool inverse) const {
    kernels::best().rotary(const_heads(from), from.size(0), from.size(1), from.size(2), data(cos), data(sin),
                           inverse, to.mutable_data_ptr<float>(), to.stride(0), kernel_threads());
  }
};

std::vector<at::Tensor> layer_rows(const at::Tensor& x, Layers layers) {
  std::vector<at::Tensor> rows;
  for (const LinearWeights* w : layers) rows.push_back(rows_of(x.size(0), w->out, x));
  return rows;
}

void normed_layers(const at::Tensor& x, const Norm& norm, Layers layers, const std::vector<at::Tensor>& to,
                   float* inverse) {
  const kernels::Kernels& set = kernels::best();
  if (by_chunks(x)) {
    std::vector<kernels::LinearPart> parts;
    for (std::size_t i = 0; i < layers.size(); ++i) parts.push_back(part_of(*layers[i], matrix(to[i])));
    set.normed_linears_forward(const_matrix(x), data(norm.weight.value), norm.epsilon(), parts.data(),
                               static_cast<std::int64_t>(parts.size()), inverse, kernel_threads());
    return;
  }
  const at::Tensor normed = norm.rows(x, inverse);
  for (std::size_t i = 0; i < layers.size(); ++i)
    set.linear_forward(const_matrix(normed), data(layers[i]->weight.value), bias_of(*layers[i]), {},
                       matrix(to[i]), kernel_threads());
}

class AttentionInputsNode final : public OpNode {
 public:
  AttentionInputsNode(Norm norm, std::vector<LinearWeights> layers, AttentionHeads heads, Angles angles,
                      at::Tensor inverse)
      : norm_(std::move(norm)),
        layers_(std::move(layers)),
        heads_(heads),
        angles_(std::move(angles)),
        inverse_(std::move(inverse)) {}
  std::string name() const override { return "ferro::attention_inputs"; }
  void release_variables() override {
    OpNode::release_variables();
    inverse_.reset();
  }
  variable_list apply(variable_list&& grads) override {
    const at::NoGradGuard no_graph;
    const at::Tensor x = as_rows(saved(0));
    std::vector<at::Tensor> grad_rows;
    for (const LinearWeights& w : layers_) grad_rows.push_back(rows_of(x.size(0), w.out, x));
    const Three parts = views(grad_rows, heads_);
    for (std::size_t i = 0; i < 3; ++i) {
      if (!grads[i].defined()) {
        parts[i].zero_();
      } else if (i == 2) {
        parts[i].copy_(grads[i]);
      } else {
        angles_.turn(as_heads(grads[i]), parts[i], true);
      }
    }
    if (std::any_of(layers_.begin(), layers_.end(), has_gradients)) {
      const at::Tensor normed = norm_.rows(x, nullptr);
      for (std::size_t i = 0; i < layers_.size(); ++i) add_layer_gradients(normed, grad_rows[i], layers_[i]);
    }
    at::Tensor dx = rows_of(x.size(0), x.size(1), x);
    for (std::size_t i = 0; i < layers_.size(); ++i) put_input_gradient(grad_rows[i], layers_[i], dx, i > 0);
    norm_.backward(x, inverse_, grads[3].defined() ? as_rows(grads[3]) : grads[3], dx);
    return {dx};
  }

 private:
  Norm norm_;
  std::vector<LinearWeights> layers_;
  AttentionHeads heads_;
  Angles angles_;
  at::Tensor inverse_;
};

AttentionInputs composed(const at::Tensor& hidden, const Param& norm, double eps, Layers layers,
                         const AttentionHeads& heads, const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor normed = rms_norm(hidden, norm, eps);
  std::vector<at::Tensor> rows;
  for (const LinearWeights* w : layers) rows.push_back(linear(normed, *w));
  const Three parts = views(rows, heads);
  return {rotary(parts[0], cos, sin), rotary(parts[1], cos, sin), parts[2].contiguous(), hidden};
}

}  // namespace

AttentionInputs attention_inputs(const at::Tensor& hidden, const Param& norm, double eps, Layers layers,
                                 const AttentionHeads& heads, const at::Tensor& cos, const at::Tensor& sin) {
  check_rows(hidden, norm, layers);
  FERRO_CHECK(layers.size() == 1 || layers.size() == 3, "q, k and v from {} layers", layers.size());
  if (!fuses(hidden, layers)) return composed(hidden, norm, eps, layers, heads, cos, sin);
  const bool graph = records({hidden});
  const Norm first{norm, eps};
  const Angles angles{cos.contiguous(), sin.contiguous()};
  AttentionInputs out;
  at::Tensor inverse;
  {
    const at::NoGradGuard no_graph;
    const at::Tensor x = as_rows(hidden.detach());
    if (graph) inverse = at::empty({x.size(0)}, x.options());
    const std::vector<at::Tensor> rows = layer_rows(x, layers);
    normed_layers(x, first, layers, rows, graph ? inverse.mutable_data_ptr<float>() : nullptr);
    const Three parts = views(rows, heads);
    const bool own = layers.size() == 3;  // Else a part would keep the rows of all three.
    out = {own ? parts[0] : at::empty(parts[0].sizes(), x.options()),
           own ? parts[1] : at::empty(parts[1].sizes(), x.options()), parts[2].contiguous(),
           graph ? hidden.detach() : hidden};
    angles.turn(parts[0], out.q, false);
    angles.turn(parts[1], out.k, false);
  }
  if (!graph) return out;
  std::vector<LinearWeights> kept;
  for (const LinearWeights* w : layers) kept.push_back(*w);
  const auto node = make_node<AttentionInputsNode>(first, std::move(kept), heads, angles, std::move(inverse));
  node->save(hidden);
  node->set_next_edges(torch::autograd::collect_next_edges(hidden));
  for (at::Tensor* output : {&out.q, &out.k, &out.v, &out.residual})
    torch::autograd::create_gradient_edge(*output, node);
  return out;
}

}  // namespace ferro
