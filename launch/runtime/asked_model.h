#pragma once

#include <memory>

#include "data/prompt_builder.h"
#include "data/rollout.h"
#include "data/tokenizer.h"
#include "launch/commands.h"
#include "model/model_folder.h"
#include "trainer/policy_setup.h"

namespace ferro {

/// For questions without an image: no image library is loaded, and none is asked.
std::unique_ptr<ImageLoader> no_image_loader();

/// A model loaded to be asked: weights without gradients, its tokenizer, its image processor, its prompts.
class AskedModel {
 public:
  /// Error{kIo}, Error{kData} as the parts' loaders.
  explicit AskedModel(const Asking& asking);

  const Model& model() const { return model_; }
  const Tokenizer& tokenizer() const { return source_.tokenizer(); }
  const PromptBuilder& prompts() const { return source_.prompts(); }
  /// Error{kData} naming the pictures: one is unreadable, or the prompt is too long with them.
  std::shared_ptr<const Prompt> prompt(const Question& question) const;

  /// Error{kUsage}: the cache of keys and values of `tokens` is more than this machine's memory.
  void check_cache(std::int64_t tokens, const char* what_to_lower) const;

  /// What training samples with: the answer ends at the model's stop ids, image and video placeholders are
  /// banned.
  SamplingParams sampling_rules() const;
  AnswerToken token(std::int32_t id, float logprob) const;

 private:
  Model model_;
  PromptSource source_;
};

}  // namespace ferro
