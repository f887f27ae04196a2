#include <cmath>

#include "core/error.h"
#include "model/qwen.h"
#include "model/rotary_tables.h"

namespace ferro {

std::vector<float> inverse_frequencies(double theta, std::int64_t width) {
  const at::Tensor exponents = at::arange(0, width / 2 * 2, 2, at::kFloat) / static_cast<double>(width);
  const at::Tensor frequencies = at::pow(at::Scalar(theta), exponents).reciprocal();
  const float* first = frequencies.const_data_ptr<float>();
  return {first, first + frequencies.numel()};
}

RotaryTableWriter::RotaryTableWriter(std::int64_t rows, std::int64_t head_dim)
    : half_(head_dim / 2),
      cos_(at::empty({rows, head_dim}, at::kFloat)),
      sin_(at::empty({rows, head_dim}, at::kFloat)) {}

void RotaryTableWriter::set(std::int64_t row, std::int64_t pair, std::int32_t position, float frequency) {
  // The angle is rounded to fp32 as the reference rounds it; its cosine is then exact to the last bit.
  const double angle = static_cast<double>(static_cast<float>(position) * frequency);
  const std::int64_t first = row * 2 * half_ + pair;
  float* cosines = cos_.data_ptr<float>();
  float* sines = sin_.data_ptr<float>();
  cosines[first] = cosines[first + half_] = static_cast<float>(std::cos(angle));
  sines[first] = sines[first + half_] = static_cast<float>(std::sin(angle));
}

Rotary RotaryTableWriter::finish(at::Device device) && {
  return {cos_.to(device), sin_.to(device)};
}

Rotary text_rotary(std::span<const std::int32_t> position_ids, const TextConfig& config, at::Device device) {
  FERRO_CHECK(position_ids.size() % 3 == 0, "{} position ids are not three rows", position_ids.size());
  const std::int64_t rows = static_cast<std::int64_t>(position_ids.size()) / 3;
  const std::vector<float> frequencies = inverse_frequencies(config.rope_theta, config.head_dim());
  RotaryTableWriter tables(rows, config.head_dim());
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t pair = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const std::int32_t position =
          position_ids[axis * static_cast<std::size_t>(rows) + static_cast<std::size_t>(row)];
      for (std::int64_t i = 0; i < config.mrope_section[axis]; ++i, ++pair)
        tables.set(row, pair, position, frequencies[static_cast<std::size_t>(pair)]);
    }
  }
  return std::move(tables).finish(device);
}

}  // namespace ferro
