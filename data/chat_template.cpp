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

// The hub's template word for word, so that transformers renders the same text from a saved model
// (Apache-2.0, Qwen).
std::string chat_template_source() {
  return "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
         "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
         "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
         "<|im_start|>{{ message['role'] }}\n"
         "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
         "{% else %}{% for content in message['content'] %}"
         "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
         "{% set image_count.value = image_count.value + 1 %}"
         "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
         "<|vision_start|><|image_pad|><|vision_end|>"
         "{% elif content['type'] == 'video' or 'video' in content %}"
         "{% set video_count.value = video_count.value + 1 %}"
         "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
         "<|vision_start|><|video_pad|><|vision_end|>"
         "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
         "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
}

}  // namespace ferro
