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

std::vector<Message> messages_of(const std::string& question,
                                 std::span<const std::shared_ptr<const ImageInput>> media,
                                 SystemPrompt system_prompt) {
  std::vector<Message> messages;
  if (system_prompt == SystemPrompt::kEmpty) messages.push_back({"system", {}});
  Message user{"user", {}};
  for (const auto& medium : media)
    user.content.push_back({medium->video ? ContentPart::Kind::kVideo : ContentPart::Kind::kImage, {}});
  user.content.push_back({ContentPart::Kind::kText, question});
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
  Media media;
  if (!row.image_path.empty()) media.push_back(images_.load(row.image_path, augment));
  return ask(options_.question_override.empty() ? row.question : options_.question_override,
             std::move(media));
}

std::shared_ptr<const Prompt> PromptBuilder::ask(const std::string& question, Media media) const {
  const std::vector<Message> messages = messages_of(question, media, options_.system_prompt);
  const ChatOptions chat{.add_vision_id = false,
                         .default_system = options_.system_prompt == SystemPrompt::kDefault};
  return build(render_chat(messages, true, chat), std::move(media));
}

void PromptBuilder::check_length(std::span<const std::int32_t> ids, const Media& media) const {
  std::int64_t visual = 0, placeholders = 0;
  for (const auto& medium : media) visual += merged_patches(*medium);
  for (const std::int32_t id : ids) placeholders += is_placeholder(id) ? 1 : 0;
  const std::int64_t length = static_cast<std::int64_t>(ids.size()) - placeholders + visual;
  if (length > options_.max_prompt_length)
    fail(ErrorCode::kData,
         "the prompt has {} tokens, {} of them from {} images or videos; max_prompt_length is {}, and a "
         "prompt "
         "is refused rather than cut: smaller pictures (max_pixels) or a larger limit",
         length, visual, media.size(), options_.max_prompt_length);
}

std::shared_ptr<const Prompt> PromptBuilder::build(const std::string& rendered, Media media) const {
  const std::vector<std::int32_t> ids = tokenizer_.encode(rendered);
  check_length(ids, media);
  auto prompt = std::make_shared<Prompt>();
  for (const std::int32_t id : ids) {
    std::int64_t copies = 1;
    if (is_placeholder(id)) {
      const std::size_t index = prompt->image_token_begin.size();
      if (index == media.size())
        fail(ErrorCode::kData, "the prompt has more placeholders than its {} images or videos", media.size());
      copies = merged_patches(*media[index]);
      prompt->image_token_begin.push_back(static_cast<std::int32_t>(prompt->ids.size()));
    }
    prompt->ids.insert(prompt->ids.end(), static_cast<std::size_t>(copies), id);
  }
  prompt->images = std::move(media);
  prompt->positions = mrope_positions(prompt->ids, prompt->images, tokens_, options_.position_rule);
  return prompt;
}

bool PromptBuilder::is_placeholder(std::int32_t id) const {
  return id == tokens_.image_token_id || id == tokens_.video_token_id;
}

std::int64_t PromptBuilder::merged_patches(const ImageInput& medium) const {
  const std::int64_t merged = std::int64_t{tokens_.spatial_merge_size} * tokens_.spatial_merge_size;
  FERRO_CHECK(merged > 0, "spatial_merge_size {}", tokens_.spatial_merge_size);
  return medium.grid.patches() / merged;
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
