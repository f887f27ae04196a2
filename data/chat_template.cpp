#include "data/chat_template.h"

#include <fmt/format.h>

namespace ferro {
namespace {

struct MediaCounts {
  int images = 0, videos = 0;
};

std::string render_part(const ContentPart& part, bool add_vision_id, MediaCounts& counts) {
  switch (part.kind) {
    case ContentPart::Kind::kImage:
      ++counts.images;
      return (add_vision_id ? fmt::format("Picture {}: ", counts.images) : "") +
             "<|vision_start|><|image_pad|><|vision_end|>";
    case ContentPart::Kind::kVideo:
      ++counts.videos;
      return (add_vision_id ? fmt::format("Video {}: ", counts.videos) : "") +
             "<|vision_start|><|video_pad|><|vision_end|>";
    case ContentPart::Kind::kText:
      break;
  }
  return part.text;
}

}  // namespace

std::string render_chat(std::span<const Message> messages, bool add_generation_prompt,
                        const ChatOptions& options) {
  std::string text;
  if (options.default_system && !messages.empty() && messages.front().role != "system") {
    text += "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
  }
  MediaCounts counts;
  for (const Message& message : messages) {
    text += "<|im_start|>" + message.role + "\n";
    for (const ContentPart& part : message.content) text += render_part(part, options.add_vision_id, counts);
    text += "<|im_end|>\n";
  }
  if (add_generation_prompt) text += "<|im_start|>assistant\n";
  return text;
}

// Jinja for transformers, which drops a newline right after a block tag: none stands there.
std::string chat_template_source() {
  return "{% set seen = namespace(images=0, videos=0) %}"
         "{% if messages and messages[0]['role'] != 'system' %}"
         "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
         "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
         "{% if turn['content'] is string %}{{ turn['content'] }}{% else %}{% for part in turn['content'] %}"
         "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
         "{% set seen.images = seen.images + 1 %}"
         "{% if add_vision_id %}Picture {{ seen.images }}: {% endif "
         "%}<|vision_start|><|image_pad|><|vision_end|>"
         "{% elif part['type'] == 'video' or 'video' in part %}"
         "{% set seen.videos = seen.videos + 1 %}"
         "{% if add_vision_id %}Video {{ seen.videos }}: {% endif "
         "%}<|vision_start|><|video_pad|><|vision_end|>"
         "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor "
         "%}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
}

}  // namespace ferro
