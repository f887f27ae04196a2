#pragma once

#include <span>
#include <string>
#include <vector>

namespace ferro {

struct ContentPart {
  enum class Kind { kText, kImage, kVideo };
  Kind kind = Kind::kText;
  std::string text;
};

struct Message {
  std::string role;  ///< "system", "user", "assistant".
  std::vector<ContentPart> content;
};

struct ChatOptions {
  bool add_vision_id = false;  ///< "Picture 1: " and "Video 1: " before each medium.
  bool default_system = true;  ///< False: no system turn for a conversation that has none.
};

/// The Qwen2.5-VL chat template: a conversation without a system message gets the default one ("You are a
/// helpful assistant."); an empty system text stays empty. Images appear as
/// <|vision_start|><|image_pad|><|vision_end|>.
std::string render_chat(std::span<const Message> messages, bool add_generation_prompt,
                        const ChatOptions& options = {});

/// The template's own text, as chat_template.json of a saved model holds it.
std::string chat_template_source();

}  // namespace ferro
