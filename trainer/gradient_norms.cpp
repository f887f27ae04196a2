#include "trainer/gradient_norms.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "trainer/adamw_kernel.h"

namespace ferro {
namespace {

constexpr std::int64_t kBlock = 1 << 15;  // Elements per partial sum.

const char* name_of(StageKind kind) {
  switch (kind) {
    case StageKind::kPatchEmbed:
    case StageKind::kVisionBlock:
      return "grad_norm/vision";
    case StageKind::kMerger:
      return "grad_norm/merger";
    case StageKind::kEmbedding:
      return "grad_norm/embedding";
    case StageKind::kDecoderBlock:
      return "grad_norm/decoder";
    case StageKind::kHead:
      return "grad_norm/head";
  }
  return "grad_norm/head";
}

double squares_of(const at::Tensor& gradients, std::int64_t begin, std::int64_t size) {
  if (!gradients.is_cpu()) {
    const auto norm =
        at::linalg_vector_norm(gradients.narrow(0, begin, size), 2, c10::nullopt, false, at::kDouble)
            .item<double>();
    return norm * norm;
  }
  const float* values = gradients.const_data_ptr<float>() + begin;
  const std::int64_t blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b)
      sums[static_cast<std::size_t>(b)] =
          squared_sum(values + b * kBlock, std::min(kBlock, size - b * kBlock));
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace

std::map<std::string, double> gradient_norms_by_stage(const ParameterArena& arena) {
  FERRO_CHECK(arena.gradients.defined() && arena.trained.offsets.size() == arena.table.parameters.size(),
              "{} gradients of {} parameters", arena.trained.offsets.size(), arena.table.parameters.size());
  std::map<std::string, double> norms;
  for (const StageInfo& stage : arena.table.stages) {
    for (std::int32_t p = stage.first_parameter; p < stage.last_parameter; ++p) {
      const std::int64_t offset = arena.trained.offsets[static_cast<std::size_t>(p)];
      if (offset < 0) continue;
      norms[name_of(stage.kind)] +=
          squares_of(arena.gradients, offset, arena.table.parameters[static_cast<std::size_t>(p)].size);
    }
  }
  for (auto& [name, value] : norms) value = std::sqrt(value);
  return norms;
}

}  // namespace ferro
