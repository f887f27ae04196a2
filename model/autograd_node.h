#pragma once

#include <initializer_list>
#include <memory>
#include <utility>

#include "model/aten.h"

namespace ferro {

/// A hand-written node of the autograd graph: an operation with one output whose backward is a kernel. It
/// keeps its inputs until they are used or released; there is no second derivative.
class OpNode : public torch::autograd::Node {
 public:
  void save(const at::Tensor& input) { saved_.emplace_back(input, /*is_output=*/false); }
  at::Tensor saved(std::size_t i) const {
    TORCH_CHECK(i < saved_.size(), "a second backward through ", name(),
                ", whose inputs are already released");
    return saved_[i].unpack();
  }
  void release_variables() override { saved_.clear(); }

 private:
  std::vector<torch::autograd::SavedVariable> saved_;
};

/// Whether a graph is being recorded for any of these inputs.
inline bool records(std::initializer_list<at::Tensor> inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const at::Tensor& input : inputs)
    if (input.requires_grad()) return true;
  return false;
}

/// Hangs `node`, which does not need its inputs' values, into the graph between the inputs and `output`.
template <class Node, class... Inputs>
at::Tensor attach_unsaved(std::shared_ptr<Node> node, at::Tensor output, const Inputs&... inputs) {
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  torch::autograd::create_gradient_edge(output, std::shared_ptr<torch::autograd::Node>(std::move(node)));
  return output;
}

/// The same with the inputs kept for the backward.
template <class Node, class... Inputs>
at::Tensor attach(std::shared_ptr<Node> node, at::Tensor output, const Inputs&... inputs) {
  (node->save(inputs), ...);
  return attach_unsaved(std::move(node), std::move(output), inputs...);
}

template <class Node, class... Args>
std::shared_ptr<Node> make_node(Args&&... args) {
  return std::shared_ptr<Node>(new Node(std::forward<Args>(args)...), torch::autograd::deleteNode);
}

}  // namespace ferro
