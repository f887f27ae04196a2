#include "data/prompt_builder.h"

#include <utility>

#include "core/error.h"
#include "data/chat_template.h"

namespace ferro {
namespace {

void check_same_id(const Tokenizer& tokenizer, const char* token, std::int32_t id) {
  const auto own = tokenizer.id_of(token);
  if (own.has_value() && id >= 0 && *own != id) {
    fail(ErrorCode::kData, "the tokenizer's {} is {}, the model's is {}: they do not belong together", token,
         *own, id);
  }
}

std::vector<Message> messages_of(const Row& row, const PromptOptions& options) {
  std::vector<Message> messages;
  if (options.system_prompt == SystemPrompt::kEmpty) messages.push_back({"system", {}});
  Message user{"user", {}};
  if (!row.image_path.empty()) user.content.push_back({ContentPart::Kind::kImage, {}});
  user.content.push_back({ContentPart::Kind::kText,
                          options.question_override.empty() ? row.question : options.question_override});
  messages.push_back(std::move(user));
  return messages;
}

}  // namespace

PromptBuilder::PromptBuilder(const Tokenizer& tokenizer, ImageLoader& images, VisionTokens tokens,
                             PromptOptions options)
    : tokenizer_(tokenizer), images_(images), tokens_(tokens), options_(std::move(options)) {
  check_same_id(tokenizer_, "<|image_pad|>", tokens_.image_token_id);
  check_same_id(tokenizer_, "<|video_pad|>", tokens_.video_token_id);
  check_same_id(tokenizer_, "<|vision_start|>", tokens_.vision_start_token_id);
  check_same_id(tokenizer_, "<|vision_end|>", tokens_.vision_end_token_id);
}

std::shared_ptr<const Prompt> PromptBuilder::build(const Row& row, const AugmentKey* augment) const {
  std::vector<std::shared_ptr<const ImageInput>> images;
  if (!row.image_path.empty()) images.push_back(images_.load(row.image_path, augment));
  const std::vector<Message> messages = messages_of(row, options_);
  const ChatOptions chat{.add_vision_id = false,
                         .default_system = options_.system_prompt == SystemPrompt::kDefault};
  return build(render_chat(messages, true, chat), std::move(images));
}

std::shared_ptr<const Prompt> PromptBuilder::build(
    const std::string& rendered, std::vector<std::shared_ptr<const ImageInput>> images) const {
  const std::vector<std::int32_t> ids = tokenizer_.encode(rendered);
  auto prompt = std::make_shared<Prompt>();
  const std::int64_t merged = std::int64_t{tokens_.spatial_merge_size} * tokens_.spatial_merge_size;
  FERRO_CHECK(merged > 0, "spatial_merge_size {}", tokens_.spatial_merge_size);
  for (const std::int32_t id : ids) {
    const bool placeholder = id == tokens_.image_token_id || id == tokens_.video_token_id;
    std::int64_t copies = 1;
    if (placeholder) {
      const std::size_t index = prompt->image_token_begin.size();
      if (index == images.size()) {
        fail(ErrorCode::kData, "the prompt has more image placeholders than its {} images", images.size());
      }
      copies = images[index]->grid.patches() / merged;
      prompt->image_token_begin.push_back(static_cast<std::int32_t>(prompt->ids.size()));
    }
    if (static_cast<std::int64_t>(prompt->ids.size()) + copies > options_.max_prompt_length) {
      fail(ErrorCode::kData, "the prompt is longer than max_prompt_length {} tokens; it is refused, not cut",
           options_.max_prompt_length);
    }
    prompt->ids.insert(prompt->ids.end(), static_cast<std::size_t>(copies), id);
  }
  prompt->images = std::move(images);
  prompt->positions = mrope_positions(prompt->ids, prompt->images, tokens_, options_.position_rule);
  return prompt;
}

std::vector<std::int32_t> PromptBuilder::encode_answer(const std::string& text) const {
  const auto end_of_turn = tokenizer_.id_of("<|im_end|>");
  if (!end_of_turn.has_value())
    fail(ErrorCode::kData, "the tokenizer has no <|im_end|> token to end an answer with");
  std::vector<std::int32_t> ids = tokenizer_.encode(text);
  ids.push_back(*end_of_turn);
  return ids;
}

}  // namespace ferro
