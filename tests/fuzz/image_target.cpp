#include "data/image/image_header.h"
#include "data/image/image_processor.h"
#include "tests/fuzz/fuzz_target.h"

// The header alone, then the decoder behind its limit, then the processor.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using ferro::testing::must_hold;
  constexpr std::int64_t kMaxPixels = 1 << 16;
  const std::span<const std::byte> encoded = std::as_bytes(std::span(data, size));
  ferro::testing::reads_or_refuses([&] {
    const ferro::ImageHeader header = ferro::read_image_header(encoded, "input");
    must_hold(header.width > 0 && header.height > 0, "an image without pixels");
    must_hold(header.orientation >= 1 && header.orientation <= 8, "an orientation that does not exist");
    const ferro::Picture picture = ferro::decode_image(encoded, kMaxPixels, "input");
    const std::int64_t pixels = std::int64_t{picture.height} * picture.width;
    must_hold(pixels == header.width * header.height && pixels <= kMaxPixels,
              "another size than the header's");
    must_hold(picture.bytes.size() == static_cast<std::size_t>(pixels * 3),
              "bytes that are not height x width x 3");
    ferro::ImageProcessorConfig config;
    config.min_pixels = 28 * 28;
    config.max_pixels = 16 * 28 * 28;
    const ferro::ImageInput input = ferro::process_picture(picture, config);
    // A side is never below 28: a strip 200 times as long as wide takes up to 28 * sqrt(200 * max_pixels).
    must_hold(input.grid.patches() * 14 * 14 <= 4 * config.max_pixels, "more patches than max_pixels allows");
  });
  return 0;
}
