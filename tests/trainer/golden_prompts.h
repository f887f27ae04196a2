#pragma once

#include <memory>
#include <span>
#include <vector>

#include "data/packing.h"
#include "model/model_folder.h"
#include "tests/trainer/golden_tensors.h"

namespace ferro::testing {

inline std::shared_ptr<ImageInput> image_of(const at::Tensor& pixels_NC, const GridThw& grid) {
  auto image = std::make_shared<ImageInput>();
  image->grid = grid;
  image->patch_values = static_cast<std::int32_t>(pixels_NC.size(1));
  const at::Tensor flat = pixels_NC.contiguous().view(-1);
  image->pixel_values.assign(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
  return image;
}

/// All media of a batch in order, stills or a video; none where its inputs name no grid. A still is stored as
/// one frame [N, 3, p, p], repeated along time.
inline std::vector<std::shared_ptr<const ImageInput>> media_of(const std::filesystem::path& golden,
                                                               const nlohmann::json& inputs,
                                                               const ModelConfig& config) {
  const bool video = inputs.contains("video_grid_thw");
  std::vector<std::shared_ptr<const ImageInput>> media;
  if (!video && !inputs.contains("image_grid_thw")) return media;
  const at::Tensor grids = manifest_tensor(golden, inputs.at(video ? "video_grid_thw" : "image_grid_thw"));
  const char* const whole = video ? "pixel_values_videos" : "pixel_values";
  at::Tensor rows;
  if (inputs.contains(whole)) {
    rows = manifest_tensor(golden, inputs.at(whole));
  } else {
    const at::Tensor frame = manifest_tensor(golden, inputs.at(std::string(whole) + "_one_frame"));
    const std::vector<at::Tensor> frames(static_cast<std::size_t>(config.vision.temporal_patch_size), frame);
    rows = at::stack(frames, 2).reshape({frame.size(0), config.vision.patch_values()});
  }
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < grids.size(0); ++i) {
    const auto at = [&](std::int64_t axis) {
      return static_cast<std::int32_t>(grids[i][axis].item<std::int64_t>());
    };
    const GridThw grid{at(0), at(1), at(2)};
    auto image = image_of(rows.narrow(0, begin, grid.patches()), grid);
    image->video = video;
    if (video && inputs.contains("second_per_grid_ts"))
      image->second_per_grid = manifest_tensor(golden, inputs.at("second_per_grid_ts"))[i].item<double>();
    media.push_back(std::move(image));
    begin += grid.patches();
  }
  FERRO_CHECK(begin == rows.size(0), "{} pixel rows, of which the grids take {}", rows.size(0), begin);
  return media;
}

/// A prompt from ids whose placeholders are expanded already. Takes its images from the front of `images`.
inline std::shared_ptr<const Prompt> prompt_of(std::vector<std::int32_t> ids,
                                               std::span<const std::shared_ptr<const ImageInput>>& images,
                                               const ModelConfig& config) {
  auto prompt = std::make_shared<Prompt>();
  const VisionTokens tokens = config.vision_tokens();
  const std::int64_t merged = std::int64_t{tokens.spatial_merge_size} * tokens.spatial_merge_size;
  for (std::size_t i = 0; i < ids.size();) {
    if (ids[i] != tokens.image_token_id && ids[i] != tokens.video_token_id) {
      ++i;
      continue;
    }
    FERRO_CHECK(!images.empty(), "more placeholders than media: token {} of {}", i, ids.size());
    prompt->image_token_begin.push_back(static_cast<std::int32_t>(i));
    prompt->images.push_back(images.front());
    i += static_cast<std::size_t>(images.front()->grid.patches() / merged);
    images = images.subspan(1);
  }
  // The sets are made with transformers 5, whose rule for videos differs from the hub's.
  prompt->positions = mrope_positions(ids, prompt->images, tokens, PositionRule::kTransformers5);
  prompt->ids = std::move(ids);
  return prompt;
}

}  // namespace ferro::testing
