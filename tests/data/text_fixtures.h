#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "data/bpe_trainer.h"
#include "data/facs.h"
#include "data/tokenizer.h"

namespace ferro::testing {

/// A folder of its own that goes away with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> next{0};
    path_ = std::filesystem::temp_directory_path() /
            ("ferro_text_test_" + std::to_string(::getpid()) + "_" + std::to_string(next++));
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// Short answers about all expressions.
inline std::vector<std::string> reasoning_texts(int copies, ReasoningStyle style) {
  std::vector<std::string> texts;
  for (int copy = 0; copy < copies; ++copy) {
    for (const std::string& label : expression_labels()) {
      KeyedRandom random(3, RandomPurpose::kTest, {static_cast<std::uint64_t>(copy)});
      texts.push_back(reasoning_text(label, action_units_of(label), random, style));
    }
  }
  return texts;
}

/// A small tokenizer learnt from those answers.
inline Tokenizer small_tokenizer(std::int64_t vocab_size = 512) {
  const TemporaryFolder folder;
  train_tokenizer(reasoning_texts(20, ReasoningStyle::kFull), vocab_size, folder.path() / "tokenizer.json");
  return Tokenizer::load(folder.path());
}

}  // namespace ferro::testing
