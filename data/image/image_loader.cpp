#include <list>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/image/image_processor.h"

namespace ferro {
namespace {

/// The last `capacity` values by key. Thread-safe.
template <class Value>
class LruCache {
 public:
  explicit LruCache(std::size_t capacity) : capacity_(capacity) {}

  std::shared_ptr<const Value> find(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->second;
  }

  void insert(const std::string& key, std::shared_ptr<const Value> value) {
    if (capacity_ == 0) return;
    const std::scoped_lock lock(mutex_);
    if (places_.contains(key)) return;
    entries_.emplace_front(key, std::move(value));
    places_[key] = entries_.begin();
    if (entries_.size() > capacity_) {
      places_.erase(entries_.back().first);
      entries_.pop_back();
    }
  }

 private:
  using Entry = std::pair<std::string, std::shared_ptr<const Value>>;
  std::size_t capacity_;
  std::mutex mutex_;
  std::list<Entry> entries_;  ///< Latest use first.
  std::unordered_map<std::string, typename std::list<Entry>::iterator> places_;
};

class FileImageLoader : public ImageLoader {
 public:
  FileImageLoader(const ImageProcessorConfig& config, const AugmentConfig& augmentation,
                  std::size_t cache_entries)
      : config_(config), augmentation_(augmentation), pictures_(cache_entries), inputs_(cache_entries) {}

  std::shared_ptr<const ImageInput> load(const std::filesystem::path& path, const AugmentKey* key) override {
    const std::string name = path.string();
    if (key != nullptr && augmentation_.enabled)
      return std::make_shared<const ImageInput>(process(augment(*decoded(name), augmentation_, *key), name));
    if (auto input = inputs_.find(name)) return input;
    auto input = std::make_shared<const ImageInput>(process(*decoded(name), name));
    inputs_.insert(name, input);
    return input;
  }

 private:
  std::shared_ptr<const Picture> decoded(const std::string& name) {
    if (auto picture = pictures_.find(name)) return picture;
    const std::string bytes = read_file(name, max_encoded_bytes());
    auto picture = std::make_shared<const Picture>(
        decode_image(std::as_bytes(std::span(bytes.data(), bytes.size())), config_.max_decoded_pixels, name));
    // Without augmentation the processed result is what is asked for again.
    if (augmentation_.enabled) pictures_.insert(name, picture);
    return picture;
  }

  /// No picture within the pixel limit needs more: 8 bytes a pixel (16-bit RGBA, not compressed) and
  /// metadata.
  std::uint64_t max_encoded_bytes() const {
    constexpr std::uint64_t kBytesPerPixel = 8, kMetadata = std::uint64_t{16} << 20;
    return static_cast<std::uint64_t>(config_.max_decoded_pixels) * kBytesPerPixel + kMetadata;
  }

  ImageInput process(const Picture& picture, const std::string& name) const {
    try {
      return process_picture(picture, config_);
    } catch (const Error& error) {
      throw Error(error.code(), name + ": " + error.what());
    }
  }

  const ImageProcessorConfig config_;
  const AugmentConfig augmentation_;
  LruCache<Picture> pictures_;
  LruCache<ImageInput> inputs_;
};

}  // namespace

std::unique_ptr<ImageLoader> make_image_loader(const ImageProcessorConfig& config,
                                               const AugmentConfig& augmentation, std::size_t cache_entries) {
  return std::make_unique<FileImageLoader>(config, augmentation, cache_entries);
}

}  // namespace ferro
