#pragma once

#include <cstdint>
#include <vector>

#include "model/qwen.h"

namespace ferro {

/// theta^(-2i / width) for i in [0, width / 2), each operation in fp32 as in transformers: the last bit of a
/// frequency turns a position of some thousands by more than rounding does.
std::vector<float> inverse_frequencies(double theta, std::int64_t width);

/// Fills cos and sin tables [rows, head_dim] pair by pair; element i + head_dim / 2 repeats element i. fp32
/// whatever the model's dtype. Every (row, pair) must be set once.
class RotaryTableWriter {
 public:
  RotaryTableWriter(std::int64_t rows, std::int64_t head_dim);
  void set(std::int64_t row, std::int64_t pair, std::int32_t position, float frequency);
  Rotary finish(at::Device device) &&;

 private:
  std::int64_t half_;
  at::Tensor cos_, sin_;
};

}  // namespace ferro
