#pragma once

#include <cstdint>
#include <span>

#include "model/qwen.h"

namespace ferro {

/// text_rotary() of answer tokens, whose three axes share one position: rows of a table that grows when a
/// longer sequence comes, so that a decoding step computes no cosine. One thread.
class PositionRotary {
 public:
  PositionRotary(const TextConfig& config, at::Device device) : config_(config), device_(device) {}
  Rotary rows(std::span<const std::int32_t> positions);

 private:
  void grow(std::int32_t length);
  TextConfig config_;
  at::Device device_;
  Rotary table_;
  std::int32_t length_ = 0;
};

}  // namespace ferro
