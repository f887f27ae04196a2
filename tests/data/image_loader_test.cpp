#include <filesystem>
#include <string>
#include <thread>

#include <unistd.h>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/image/image_processor.h"
#include "tests/data/image_encoders.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

/// A folder of its own, removed at the end.
class PicturesFolder {
 public:
  PicturesFolder() : path_(fs::temp_directory_path() / ("ferro-image-loader-" + std::to_string(::getpid()))) {
    create_folders(path_);
  }
  ~PicturesFolder() { fs::remove_all(path_); }
  fs::path grey_png(const std::string& name, std::uint8_t level) const {
    const testing::Bytes png = testing::make_png(
        {.width = 8, .height = 8, .depth = 8, .colour_type = 0, .rows = testing::Bytes(64, level)});
    write_file_atomically(path_ / name, {reinterpret_cast<const char*>(png.data()), png.size()});
    return path_ / name;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

ImageProcessorConfig small_config() {
  ImageProcessorConfig config;
  config.patch_size = 2;
  config.min_pixels = 16;
  return config;
}

/// The error that loading ends with.
Error refusal(ImageLoader& loader, const fs::path& path) {
  try {
    loader.load(path, nullptr);
  } catch (const Error& error) {
    return error;
  }
  FAIL("loaded what should have been refused");
  return {ErrorCode::kInternal, ""};
}

}  // namespace

TEST_CASE("a loader hands out the same result while it is cached, and reads again after eviction") {
  const PicturesFolder folder;
  const fs::path a = folder.grey_png("a.png", 10), b = folder.grey_png("b.png", 20),
                 c = folder.grey_png("c.png", 30);
  const auto loader = make_image_loader(small_config(), AugmentConfig{}, 2);
  const auto first = loader->load(a, nullptr);
  CHECK(loader->load(a, nullptr) == first);
  loader->load(b, nullptr);
  loader->load(a, nullptr);
  loader->load(c, nullptr);  // Evicts b, the one used longest ago.
  CHECK(loader->load(a, nullptr) == first);
  fs::remove(a);
  fs::remove(b);
  CHECK(loader->load(a, nullptr) == first);
  CHECK(refusal(*loader, b).code() == ErrorCode::kIo);
}

TEST_CASE("a loader augments only with a key, and only where augmentation is on") {
  const PicturesFolder folder;
  const fs::path path = folder.grey_png("a.png", 100);
  AugmentConfig augmentation;
  const AugmentKey key{1, 2, 3};
  const auto plain = make_image_loader(small_config(), augmentation, 4);
  const auto expected = plain->load(path, nullptr);
  CHECK(plain->load(path, &key) == expected);
  augmentation.enabled = true;
  const auto loader = make_image_loader(small_config(), augmentation, 4);
  CHECK(loader->load(path, nullptr)->pixel_values == expected->pixel_values);
  CHECK(loader->load(path, &key)->pixel_values != expected->pixel_values);
  CHECK(loader->load(path, &key)->pixel_values == loader->load(path, &key)->pixel_values);
}

TEST_CASE("a loader's errors name the file") {
  const PicturesFolder folder;
  const auto loader = make_image_loader(small_config(), AugmentConfig{}, 4);
  const Error missing = refusal(*loader, folder.path() / "absent.png");
  CHECK(missing.code() == ErrorCode::kIo);
  CHECK(std::string(missing.what()).find("absent.png") != std::string::npos);
  write_file_atomically(folder.path() / "text.png", "no picture at all");
  const Error foreign = refusal(*loader, folder.path() / "text.png");
  CHECK(foreign.code() == ErrorCode::kData);
  CHECK(std::string(foreign.what()).find("text.png") != std::string::npos);
  const testing::Bytes strip = testing::make_png(
      {.width = 1, .height = 300, .depth = 8, .colour_type = 0, .rows = testing::Bytes(300, 1)});
  write_file_atomically(folder.path() / "strip.png",
                        {reinterpret_cast<const char*>(strip.data()), strip.size()});
  const Error thin = refusal(*loader, folder.path() / "strip.png");
  CHECK(thin.code() == ErrorCode::kData);
  CHECK(std::string(thin.what()).find("strip.png") != std::string::npos);
}

TEST_CASE("a file larger than any picture within the pixel limit is not read") {
  const PicturesFolder folder;
  ImageProcessorConfig config = small_config();
  config.max_decoded_pixels = 1000;
  const auto loader = make_image_loader(config, AugmentConfig{}, 4);
  const auto path = folder.path() / "huge.png";
  write_file_atomically(path, "\x89PNG\r\n\x1a\n");
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40);  // Sparse: a terabyte that takes no room.
  const Error error = refusal(*loader, path);
  CHECK(error.code() == ErrorCode::kData);
  CHECK(std::string(error.what()).find("huge.png") != std::string::npos);
}

TEST_CASE("a loader serves several threads") {
  const PicturesFolder folder;
  std::vector<fs::path> paths;
  for (int i = 0; i < 6; ++i)
    paths.push_back(folder.grey_png(std::to_string(i) + ".png", static_cast<std::uint8_t>(40 * i)));
  const auto loader = make_image_loader(small_config(), AugmentConfig{}, 3);
  std::array<int, 4> wrong{};
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < wrong.size(); ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = 0; i < 60; ++i) {
          const std::size_t which = (i * (t + 1)) % paths.size();
          const float expected =
              (static_cast<float>(40.0 * static_cast<double>(which) / 255.0) - 0.48145466F) / 0.26862954F;
          const auto input = loader->load(paths[which], nullptr);
          wrong[t] += std::abs(input->pixel_values[0] - expected) < 1e-6F ? 0 : 1;
        }
      });
    }
  }
  CHECK(wrong == std::array<int, 4>{});
}

}  // namespace ferro
