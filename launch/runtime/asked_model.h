#pragma once

#include <memory>

#include "data/image_input.h"
#include "data/prompt_builder.h"
#include "data/rollout.h"
#include "data/tokenizer.h"
#include "launch/commands.h"
#include "model/model_folder.h"

namespace ferro {

/// A model loaded to be asked: weights without gradients, its tokenizer, its image processor, its prompts.
class AskedModel {
 public:
  /// Error{kIo}, Error{kData} as the parts' loaders.
  explicit AskedModel(const Asking& asking);

  const Model& model() const { return model_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const PromptBuilder& prompts() const { return *prompts_; }

  /// What training samples with: the answer ends at the end of a turn, image and video placeholders are
  /// banned.
  SamplingParams sampling_rules() const;
  AnswerToken token(std::int32_t id, float logprob) const;

 private:
  Tokenizer tokenizer_;
  Model model_;
  std::unique_ptr<ImageLoader> images_;
  std::unique_ptr<PromptBuilder> prompts_;
};

}  // namespace ferro
