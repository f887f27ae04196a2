#include "data/image/image_processor.h"
#include "tests/fuzz/memory_file.h"

namespace {

/// A small picture, by whatever the configuration says.
void process(const ferro::ImageProcessorConfig& config) {
  static const ferro::Picture picture{30, 40, 3, std::vector<std::uint8_t>(30 * 40 * 3, 100)};
  // What a configuration may ask for is bounded by max_pixels: only small requests are carried out here.
  constexpr std::int64_t kSmall = 1 << 18;
  if (config.max_pixels > kSmall || config.forced_size > 512 || config.patch_size * config.merge_size > 128 ||
      config.temporal_patch_size > 8) {
    return;
  }
  const ferro::ImageInput input = ferro::process_picture(picture, config);
  ferro::testing::must_hold(input.pixel_values.size() == static_cast<std::size_t>(input.grid.patches()) *
                                                             static_cast<std::size_t>(input.patch_values),
                            "patches of another size");
}

}  // namespace

// As preprocessor_config.json, and as processor_config.json.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ferro::testing::MemoryFile file;
  const std::filesystem::path& path = file.hold(ferro::testing::text_of(data, size));
  ferro::testing::reads_or_refuses([&] { process(ferro::ImageProcessorConfig::load(path)); });
  ferro::testing::reads_or_refuses([&] {
    if (const auto config = ferro::ImageProcessorConfig::load_nested(path)) process(*config);
  });
  return 0;
}
