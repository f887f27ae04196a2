#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/clock.h"
#include "core/error.h"
#include "data/bpe_trainer.h"
#include "data/tokenizer.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/train.h"

namespace ferro::testing {

/// A folder that goes when the test does.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ferro-test-XXXXXX").string();
    FERRO_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary folder {}", pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The values of a .jsonl file's text.
inline std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// Pictures made of the file's name: those of one label share a pattern, under noise of their own.
/// "broken..." cannot be read.
class FakeLoader final : public ImageLoader {
 public:
  explicit FakeLoader(std::int32_t patch_values, std::int32_t side = 4)
      : patch_values_(patch_values), side_(side) {}
  std::shared_ptr<const ImageInput> load(const std::filesystem::path& path,
                                         const AugmentKey* augment) override {
    const std::string name = path.filename().string();
    if (name.starts_with("broken")) fail(ErrorCode::kData, "{}: not an image", path.string());
    auto image = std::make_shared<ImageInput>();
    image->grid = {1, side_, side_};
    image->patch_values = patch_values_;
    const std::string label = name.substr(0, name.find('_'));
    KeyedRandom pattern(1, RandomPurpose::kTest, {coordinate_of(label.data(), label.size())});
    KeyedRandom noise(2, RandomPurpose::kTest,
                      {coordinate_of(name.data(), name.size()),
                       augment == nullptr ? 0 : static_cast<std::uint64_t>(augment->epoch) + 1});
    for (std::int64_t i = 0; i < image->grid.patches() * patch_values_; ++i)
      image->pixel_values.push_back(static_cast<float>(pattern.normal() + 0.2 * noise.normal()));
    return image;
  }

 private:
  std::int32_t patch_values_, side_;
};

/// A very small model's folder, rows for both jobs and an environment, in a temporary folder.
class TinyJob {
 public:
  /// `side`: patches along an image's edge.
  explicit TinyJob(const ModelConfig& shape = tiny_config(), std::int32_t side = 4) : config_(shape) {
    write_model();
    write_rows();
    environment.clock = &clock_;
    const auto patch_values = static_cast<std::int32_t>(config_.vision.patch_values());
    environment.make_loader = [patch_values, side](const ImageProcessorConfig&, const AugmentConfig&,
                                                   std::size_t) {
      return std::make_unique<FakeLoader>(patch_values, side);
    };
  }

  SftConfig sft(const std::string& name) const {
    SftConfig config;
    config.model_name_or_path = (root_.path() / "base").string();
    config.output_dir = (root_.path() / name).string();
    config.seed = 3;
    config.num_train_epochs = 24;
    config.per_device_train_batch_size = 4;
    config.gradient_accumulation_steps = 2;
    config.logging_steps = 1;
    config.max_new_tokens = 24;
    config.data.train_file = (root_.path() / "sft.json").string();
    config.data.eval_file = (root_.path() / "rl.json").string();
    config.data.system_prompt = "none";
    config.optimizer.learning_rate = 3e-3;
    return config;
  }
  GrpoConfig grpo(const std::string& name, const std::string& start) const {
    GrpoConfig config;
    config.model_name_or_path = (root_.path() / start).string();
    config.output_dir = (root_.path() / name).string();
    config.seed = 4;
    config.max_steps = 4;
    config.prompts_per_step = 3;
    config.num_generations = 4;
    config.max_tokens_per_micro_batch = 100;
    config.max_completion_length = 32;
    config.kv_cache_tokens = 2048;
    config.loss.beta = 0.04;
    config.data.train_file = (root_.path() / "rl.json").string();
    config.data.system_prompt = "none";
    config.optimizer.learning_rate = 1e-3;
    return config;
  }
  const std::filesystem::path& root() const { return root_.path(); }
  std::string read(const std::string& file) const { return read_file(root_.path() / file); }

  TrainEnvironment environment;

 private:
  static std::string response(const std::string& label) {
    return "<think>it looks " + label + "</think><answer>" + label + "</answer>";
  }

  void write_model() {
    const std::filesystem::path folder = root_.path() / "base", staging = root_.path() / "tokenizer.json";
    const std::vector<std::string> texts{"which expression?", response("happy"), response("sad")};
    train_tokenizer(texts, 320, staging);
    const Tokenizer tokenizer = Tokenizer::load(staging);
    config_.text.vocab_size = std::max(config_.text.vocab_size, tokenizer.vocab_size());
    config_.vision_start_token_id = *tokenizer.id_of("<|vision_start|>");
    config_.vision_end_token_id = *tokenizer.id_of("<|vision_end|>");
    config_.image_token_id = *tokenizer.id_of("<|image_pad|>");
    config_.video_token_id = *tokenizer.id_of("<|video_pad|>");
    config_.bos_token_id = config_.pad_token_id = *tokenizer.id_of("<|endoftext|>");
    config_.eos_token_id = *tokenizer.id_of("<|im_end|>");
    save_model(random_model(config_, 11, false), folder, {});
    std::filesystem::rename(staging, folder / "tokenizer.json");
    ImageProcessorConfig processor;
    processor.patch_size = static_cast<std::int32_t>(config_.vision.patch_size);
    processor.temporal_patch_size = static_cast<std::int32_t>(config_.vision.temporal_patch_size);
    processor.merge_size = static_cast<std::int32_t>(config_.vision.spatial_merge_size);
    processor.save(folder / "preprocessor_config.json");
  }

  void write_rows() {
    nlohmann::json sft = nlohmann::json::array(), rl = nlohmann::json::array();
    for (int i = 0; i < 24; ++i) {
      const std::string label = i % 3 == 0 ? "happy" : "sad";
      const std::string image = (i == 7 ? "broken_" : label + "_") + std::to_string(i) + ".png";
      std::ofstream(root_.path() / image) << "x";
      sft.push_back(
          {{"image_path", image}, {"question", "which expression?"}, {"response", response(label)}});
      rl.push_back({{"image_path", image}, {"problem", "which expression?"}, {"solution", label}});
    }
    sft.push_back({{"image_path", "absent.png"}, {"question", "which expression?"}, {"response", "none"}});
    write_file_atomically(root_.path() / "sft.json", sft.dump());
    write_file_atomically(root_.path() / "rl.json", rl.dump());
  }

  TemporaryFolder root_;
  SystemClock clock_;
  ModelConfig config_;
};

}  // namespace ferro::testing
