#include "tests/model/golden_case.h"

#include <algorithm>

namespace ferro::testing {
namespace {

using nlohmann::json;

at::Tensor input(const GoldenSet& set, const json& entry, const char* name) {
  const json& inputs = entry.at("inputs");
  return inputs.contains(name) ? set.tensor(inputs.at(name)) : at::Tensor();
}

/// Stored values per patch: a still image has one frame, repeated along time.
at::Tensor pixels_of(const GoldenSet& set, const json& entry, const ModelConfig& config) {
  for (const char* whole : {"pixel_values_videos", "pixel_values"})
    if (const at::Tensor pixels = input(set, entry, whole); pixels.defined()) return pixels;
  const at::Tensor frame = input(set, entry, "pixel_values_one_frame");
  if (!frame.defined()) return frame;
  std::vector<at::Tensor> frames(static_cast<std::size_t>(config.vision.temporal_patch_size), frame);
  return at::stack(frames, 2).reshape({frame.size(0), config.vision.patch_values()});
}

std::vector<std::shared_ptr<const ImageInput>> media_of(const GoldenSet& set, const json& entry,
                                                        const ModelConfig& config, const at::Tensor& pixels) {
  const bool video = entry.at("inputs").contains("video_grid_thw");
  const at::Tensor grids = input(set, entry, video ? "video_grid_thw" : "image_grid_thw");
  std::vector<std::shared_ptr<const ImageInput>> media;
  if (!grids.defined()) return media;
  const at::Tensor seconds = input(set, entry, "second_per_grid_ts");
  std::int64_t row = 0;
  for (std::int64_t i = 0; i < grids.size(0); ++i) {
    ImageInput image;
    const auto extent = [&](std::int64_t axis) {
      return static_cast<std::int32_t>(grids[i][axis].item<std::int64_t>());
    };
    image.grid = {extent(0), extent(1), extent(2)};
    image.patch_values = static_cast<std::int32_t>(config.vision.patch_values());
    image.video = video;
    if (seconds.defined()) image.second_per_grid = seconds[i].item<double>();
    const at::Tensor own = pixels.narrow(0, row, image.grid.patches()).contiguous();
    image.pixel_values.assign(own.data_ptr<float>(), own.data_ptr<float>() + own.numel());
    row += image.grid.patches();
    media.push_back(std::make_shared<const ImageInput>(std::move(image)));
  }
  REQUIRE(row == pixels.size(0));
  return media;
}

/// Gives a row the media its placeholder runs ask for, in order.
void take_media(Prompt& prompt, const std::vector<std::shared_ptr<const ImageInput>>& media,
                std::size_t& next, const ModelConfig& config) {
  const std::int64_t merged = config.vision.spatial_merge_size * config.vision.spatial_merge_size;
  for (std::size_t i = 0; i < prompt.ids.size();) {
    if (prompt.ids[i] != config.image_token_id && prompt.ids[i] != config.video_token_id) {
      ++i;
      continue;
    }
    REQUIRE(next < media.size());
    prompt.images.push_back(media[next]);
    prompt.image_token_begin.push_back(static_cast<std::int32_t>(i));
    i += static_cast<std::size_t>(media[next++]->grid.patches() / merged);
  }
}

/// NaN where one is among them.
double largest(const at::Tensor& values) {
  return values.numel() == 0 ? 0.0 : values.abs().max().item<double>();
}

}  // namespace

GoldenSet::GoldenSet(std::filesystem::path folder)
    : folder_(std::move(folder)), manifest_(read_json(folder_ / "manifest.json")) {}

at::Tensor GoldenSet::tensor(const nlohmann::json& reference) const {
  const SafetensorsFile file(folder_ / reference.at("file").get<std::string>());
  return file.tensor(reference.at("tensor").get<std::string>());
}

std::filesystem::path GoldenSet::first_checkpoint() const {
  return folder_ / manifest_.at("model").at("checkpoints").at(0).at("path").get<std::string>();
}

Model GoldenSet::model(bool panels) const {
  return load_model(first_checkpoint(), false, panels);
}

GoldenCase load_case(const GoldenSet& set, const json& entry, const ModelConfig& config, PositionRule rule) {
  GoldenCase loaded;
  loaded.pixels = pixels_of(set, entry, config);
  const auto media = media_of(set, entry, config, loaded.pixels);
  for (const auto& image : media) loaded.grids.push_back(image->grid);
  const at::Tensor ids = input(set, entry, "input_ids"), mask = input(set, entry, "attention_mask");
  std::size_t next = 0;
  BatchPacker packer;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    GoldenRow golden;
    for (std::int64_t i = 0; i < ids.size(1); ++i) {
      if (mask[row][i].item<std::int64_t>() == 0) continue;
      golden.places.push_back(i);
      golden.prompt.ids.push_back(static_cast<std::int32_t>(ids[row][i].item<std::int64_t>()));
    }
    take_media(golden.prompt, media, next, config);
    golden.prompt.positions =
        mrope_positions(golden.prompt.ids, golden.prompt.images, config.vision_tokens(), rule);
    packer.add_prompt(golden.prompt);
    loaded.rows.push_back(std::move(golden));
  }
  REQUIRE(next == media.size());
  loaded.batch = packer.finish();
  return loaded;
}

void expect_close(const std::string& what, const at::Tensor& got, const at::Tensor& stored,
                  const json& tolerance) {
  INFO(what);
  REQUIRE(got.sizes() == stored.sizes());
  if (tolerance.contains("exact")) {
    const bool equal = got.to(stored.scalar_type()).equal(stored);
    report_difference(what, equal ? 0.0 : largest(got.to(at::kDouble) - stored.to(at::kDouble)), 0.0);
    CHECK(equal);
    return;
  }
  const at::Tensor exact = stored.to(at::kDouble), difference = (got.to(at::kDouble) - exact).abs();
  if (tolerance.contains("of_max")) {
    const double allowed = tolerance.at("of_max").get<double>() * largest(exact);
    report_difference(what, largest(difference), allowed);
    CHECK(largest(difference) <= allowed);
    return;
  }
  const double absolute = tolerance.value("abs", 0.0), relative = tolerance.value("rel", 0.0);
  report_difference(what, largest(difference), absolute);
  CHECK((difference <= absolute + relative * exact.abs()).all().item<bool>());
}

}  // namespace ferro::testing
