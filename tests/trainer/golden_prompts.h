#pragma once

#include <memory>
#include <span>
#include <vector>

#include "data/packing.h"
#include "model/model_folder.h"
#include "tests/trainer/golden_tensors.h"

namespace ferro::testing {

inline std::shared_ptr<const ImageInput> image_of(const at::Tensor& pixels_NC, const GridThw& grid) {
  auto image = std::make_shared<ImageInput>();
  image->grid = grid;
  image->patch_values = static_cast<std::int32_t>(pixels_NC.size(1));
  const at::Tensor flat = pixels_NC.contiguous().view(-1);
  image->pixel_values.assign(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
  return image;
}

/// Images from pixel rows of one frame [N, 3, p, p], the frame repeated, one after the other by their grids
/// [images, 3].
inline std::vector<std::shared_ptr<const ImageInput>> images_of(const at::Tensor& one_frame,
                                                                const at::Tensor& grids) {
  const at::Tensor rows = at::stack({one_frame, one_frame}, 2).reshape({one_frame.size(0), -1});
  std::vector<std::shared_ptr<const ImageInput>> images;
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < grids.size(0); ++i) {
    const auto at = [&](std::int64_t axis) {
      return static_cast<std::int32_t>(grids[i][axis].item<std::int64_t>());
    };
    const GridThw grid{at(0), at(1), at(2)};
    images.push_back(image_of(rows.narrow(0, begin, grid.patches()), grid));
    begin += grid.patches();
  }
  return images;
}

/// A prompt from ids whose placeholders are expanded already. Takes its images from the front of `images`.
inline std::shared_ptr<const Prompt> prompt_of(std::vector<std::int32_t> ids,
                                               std::span<const std::shared_ptr<const ImageInput>>& images,
                                               const ModelConfig& config) {
  auto prompt = std::make_shared<Prompt>();
  const VisionTokens tokens = config.vision_tokens();
  const std::int64_t merged = std::int64_t{tokens.spatial_merge_size} * tokens.spatial_merge_size;
  for (std::size_t i = 0; i < ids.size();) {
    if (ids[i] != tokens.image_token_id) {
      ++i;
      continue;
    }
    prompt->image_token_begin.push_back(static_cast<std::int32_t>(i));
    prompt->images.push_back(images.front());
    i += static_cast<std::size_t>(images.front()->grid.patches() / merged);
    images = images.subspan(1);
  }
  prompt->positions = mrope_positions(ids, prompt->images, tokens);
  prompt->ids = std::move(ids);
  return prompt;
}

}  // namespace ferro::testing
