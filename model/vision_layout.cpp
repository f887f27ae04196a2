#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "model/qwen.h"
#include "model/rotary_tables.h"

// Window order of the vision tower: merged patches are grouped into square windows, image after image,
// temporal patch after temporal patch; windows at the border are smaller. Source: Qwen2.5-VL technical report
// (arXiv:2502.13923), section 2.1, and transformers' get_window_index; golden: forward/window_index.json.

namespace ferro {
namespace {

struct PatchPlace {
  std::int32_t row = 0, column = 0;
};

/// Row and column of every patch in input order, in which the merge x merge patches of a merged one lie
/// together.
void append_patch_places(const GridThw& grid, std::int32_t merge, std::vector<PatchPlace>& places) {
  for (std::int32_t t = 0; t < grid.t; ++t)
    for (std::int32_t block_row = 0; block_row < grid.h / merge; ++block_row)
      for (std::int32_t block_column = 0; block_column < grid.w / merge; ++block_column)
        for (std::int32_t y = 0; y < merge; ++y)
          for (std::int32_t x = 0; x < merge; ++x)
            places.push_back({block_row * merge + y, block_column * merge + x});
}

/// Merged patches of one image in window order, numbered from `first`; `cu_window_seqlens` grows by one entry
/// per window.
void append_windows(const GridThw& grid, const VisionConfig& config, std::int64_t first,
                    VisionLayout& layout) {
  const auto merge = static_cast<std::int32_t>(config.spatial_merge_size);
  const auto side =
      static_cast<std::int32_t>(config.window_size / config.spatial_merge_size / config.patch_size);
  const std::int32_t height = grid.h / merge, width = grid.w / merge;
  for (std::int32_t t = 0; t < grid.t; ++t)
    for (std::int32_t top = 0; top < height; top += side)
      for (std::int32_t left = 0; left < width; left += side) {
        const std::int32_t bottom = std::min(top + side, height), right = std::min(left + side, width);
        for (std::int32_t y = top; y < bottom; ++y)
          for (std::int32_t x = left; x < right; ++x)
            layout.window_index.push_back(first + (std::int64_t{t} * height + y) * width + x);
        layout.cu_window_seqlens.push_back(layout.cu_window_seqlens.back() +
                                           (bottom - top) * (right - left) * merge * merge);
      }
}

AttentionPlan block_diagonal_plan(const std::vector<std::int32_t>& cumulative) {
  AttentionPlan plan;
  plan.causal = false;
  for (std::size_t i = 0; i + 1 < cumulative.size(); ++i) {
    AttentionSpan span;
    span.query_begin = span.key_begin = cumulative[i];
    span.query_end = span.key_end = cumulative[i + 1];
    plan.spans.push_back(span);
  }
  return plan;
}

/// The first half of a head's pairs turns with the row, the second with the column.
Rotary vision_rotary(const std::vector<PatchPlace>& places, const std::vector<std::int64_t>& order,
                     const VisionConfig& config, at::Device device) {
  const std::int64_t quarter = config.head_dim() / 4;
  const std::vector<float> frequencies = inverse_frequencies(config.rope_theta, config.head_dim() / 2);
  RotaryTableWriter tables(static_cast<std::int64_t>(order.size()), config.head_dim());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const PatchPlace place = places[static_cast<std::size_t>(order[i])];
    for (std::int64_t pair = 0; pair < quarter; ++pair) {
      const float frequency = frequencies[static_cast<std::size_t>(pair)];
      tables.set(static_cast<std::int64_t>(i), pair, place.row, frequency);
      tables.set(static_cast<std::int64_t>(i), quarter + pair, place.column, frequency);
    }
  }
  return std::move(tables).finish(device);
}

at::Tensor to_index(const std::vector<std::int64_t>& values, at::Device device) {
  const at::Tensor index = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), index.data_ptr<std::int64_t>());
  return index.to(device);
}

}  // namespace

VisionLayout vision_layout(std::span<const GridThw> grids, const VisionConfig& config, at::Device device) {
  VisionLayout layout;
  layout.cu_window_seqlens = {0};
  layout.cu_seqlens = {0};
  const auto merge = static_cast<std::int32_t>(config.spatial_merge_size);
  const std::int64_t merge_area = std::int64_t{merge} * merge;
  std::vector<PatchPlace> places;
  for (const GridThw& grid : grids) {
    FERRO_CHECK(grid.t > 0 && grid.h > 0 && grid.w > 0 && grid.h % merge == 0 && grid.w % merge == 0,
                "image grid {}x{}x{} is not a multiple of the merge size {}", grid.t, grid.h, grid.w, merge);
    append_windows(grid, config, layout.num_patches / merge_area, layout);
    append_patch_places(grid, merge, places);
    for (std::int32_t t = 0; t < grid.t; ++t)
      layout.cu_seqlens.push_back(layout.cu_seqlens.back() + grid.h * grid.w);
    layout.num_patches += grid.patches();
  }

  std::vector<std::int64_t> patch_order, inverse(layout.window_index.size());
  patch_order.reserve(places.size());
  for (std::size_t place = 0; place < layout.window_index.size(); ++place) {
    const std::int64_t merged = layout.window_index[place];
    inverse[static_cast<std::size_t>(merged)] = static_cast<std::int64_t>(place);
    for (std::int64_t i = 0; i < merge_area; ++i) patch_order.push_back(merged * merge_area + i);
  }
  layout.rotary = vision_rotary(places, patch_order, config, device);
  layout.window_plan = block_diagonal_plan(layout.cu_window_seqlens);
  layout.full_plan = block_diagonal_plan(layout.cu_seqlens);
  layout.patch_order = to_index(patch_order, device);
  layout.merged_order_inverse = to_index(inverse, device);
  return layout;
}

at::Tensor batch_pixels(std::span<const PackedImage> images, std::int64_t patch_values, at::Device device) {
  std::int64_t rows = 0;
  for (const PackedImage& packed : images) {
    const ImageInput& image = *packed.image;
    FERRO_CHECK(image.patch_values == patch_values, "an image has {} values per patch, the model takes {}",
                image.patch_values, patch_values);
    FERRO_CHECK(static_cast<std::int64_t>(image.pixel_values.size()) == image.grid.patches() * patch_values,
                "an image has {} pixel values for {} patches", image.pixel_values.size(),
                image.grid.patches());
    rows += image.grid.patches();
  }
  const at::Tensor pixels = at::empty({rows, patch_values}, at::kFloat);
  float* out = pixels.data_ptr<float>();
  for (const PackedImage& packed : images)
    out = std::copy(packed.image->pixel_values.begin(), packed.image->pixel_values.end(), out);
  return pixels.to(device);
}

}  // namespace ferro
