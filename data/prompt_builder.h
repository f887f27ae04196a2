#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/positions.h"
#include "data/prompt.h"
#include "data/row.h"
#include "data/tokenizer.h"

namespace ferro {

/// How a question becomes messages. Cold start and RL of the published run differ here: a named setting, not
/// a habit.
enum class SystemPrompt {
  kDefault,  ///< No system message: the template's default text appears (published RL and evaluation).
  kEmpty,    ///< A system message with empty text (published cold start).
  kNone,     ///< No system turn at all: shortest prompts, for tiny models.
};

struct PromptOptions {
  SystemPrompt system_prompt = SystemPrompt::kDefault;
  std::string
      question_override;  ///< Not empty: asked instead of the row's question (the tiny model's short prompt).
  std::int64_t max_prompt_length =
      4096;  ///< Longer prompts are refused (Error{kData}), never cut: a cut can lose image tokens.
  PositionRule position_rule = PositionRule::kHub;
};

/// Row -> Prompt: messages, template, ids, placeholders expanded to the image's merged patches, positions.
/// Thread-safe if the loader is. The tokenizer and loader must outlive it.
class PromptBuilder {
 public:
  PromptBuilder(const Tokenizer& tokenizer, ImageLoader& images, VisionTokens tokens, PromptOptions options);

  /// Error{kData}: image unreadable, prompt too long. The caller knows which row it was.
  std::shared_ptr<const Prompt> build(const Row& row, const AugmentKey* augment = nullptr) const;
  using Media = std::vector<std::shared_ptr<const ImageInput>>;
  /// A user's turn: images and videos in order, then the question.
  std::shared_ptr<const Prompt> ask(const std::string& question, Media media) const;
  /// From a rendered text and its images and videos, in order.
  std::shared_ptr<const Prompt> build(const std::string& rendered, Media media) const;
  /// Ids of an answer's text with the end-of-turn token after it.
  std::vector<std::int32_t> encode_answer(const std::string& text) const;
  const VisionTokens& vision_tokens() const { return tokens_; }

 private:
  void check_length(std::span<const std::int32_t> ids, const Media& media) const;
  bool is_placeholder(std::int32_t id) const;
  std::int64_t merged_patches(const ImageInput& medium) const;

  const Tokenizer& tokenizer_;
  ImageLoader& images_;
  VisionTokens tokens_;
  PromptOptions options_;
};

}  // namespace ferro
