#include "data/chat_template.h"
#include "data/prompt_builder.h"
#include "data/utf8.h"
#include "tests/data/text_fixtures.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using ferro::ContentPart;
using ferro::Message;

/// The input as messages: one byte chooses what follows, a role, a medium or a text up to the next zero byte.
std::vector<Message> messages_of(std::string_view bytes, std::size_t& images) {
  std::vector<Message> messages;
  while (!bytes.empty()) {
    const auto choice = static_cast<unsigned char>(bytes[0]);
    bytes.remove_prefix(1);
    if (choice % 4 == 0 || messages.empty()) {
      constexpr const char* kRoles[] = {"system", "user", "assistant"};
      messages.push_back({kRoles[choice / 4 % 3], {}});
    } else if (choice % 4 == 1) {
      messages.back().content.push_back({ContentPart::Kind::kImage, {}});
      ++images;
    } else {
      const std::size_t end = std::min(bytes.find('\0'), bytes.size());
      messages.back().content.push_back({ContentPart::Kind::kText, std::string(bytes.substr(0, end))});
      bytes.remove_prefix(std::min(end + 1, bytes.size()));
    }
  }
  return messages;
}

class NoImages : public ferro::ImageLoader {
 public:
  std::shared_ptr<const ferro::ImageInput> load(const std::filesystem::path& path,
                                                const ferro::AugmentKey*) override {
    ferro::fail(ferro::ErrorCode::kIo, "{}: no images here", path.string());
  }
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using ferro::testing::must_hold;
  static const ferro::Tokenizer tokenizer = ferro::testing::small_tokenizer();
  static NoImages loader;
  static const ferro::VisionTokens tokens{.image_token_id = *tokenizer.id_of("<|image_pad|>"),
                                          .video_token_id = *tokenizer.id_of("<|video_pad|>"),
                                          .vision_start_token_id = *tokenizer.id_of("<|vision_start|>"),
                                          .vision_end_token_id = *tokenizer.id_of("<|vision_end|>")};
  static const ferro::PromptBuilder builder = [] {
    ferro::PromptOptions options;
    options.max_prompt_length = 512;
    return ferro::PromptBuilder(tokenizer, loader, tokens, options);
  }();
  ferro::testing::reads_or_refuses([&] {
    std::size_t images = 0;
    const std::vector<Message> messages = messages_of(ferro::testing::text_of(data, size), images);
    const std::string rendered =
        ferro::render_chat(messages, size % 2 == 0, {.add_vision_id = size % 3 == 0});
    auto image = std::make_shared<ferro::ImageInput>();
    image->grid = {1, 4, 6};
    const std::vector<std::shared_ptr<const ferro::ImageInput>> media(images, image);
    const auto prompt = builder.build(rendered, media);
    std::size_t placeholders = 0;
    for (const std::int32_t id : prompt->ids) placeholders += id == tokens.image_token_id ? 1 : 0;
    must_hold(placeholders == 6 * images, "image tokens that do not belong to an image");
    must_hold(prompt->positions.ids.size() == 3 * prompt->ids.size(), "positions of another length");
    must_hold(prompt->image_token_begin.size() == images, "images without a place");
    must_hold(ferro::is_valid_utf8(tokenizer.decode(prompt->ids, false)), "a prompt that is not UTF-8");
  });
  return 0;
}
