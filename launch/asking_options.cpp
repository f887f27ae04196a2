#include "launch/asking_options.h"

#include <CLI/CLI.hpp>

#include "launch/config_kinds.h"
#include "launch/plugins.h"

namespace ferro {

void add_asking_options(CLI::App& command, AskingOptions& options) {
  command.add_option("-m,--model", options.model, "Hugging Face model folder.")->required();
  command.add_option(
      "-c,--config", options.config,
      "Training configuration: ask as it does (system prompt, question, answer length, image root).");
  command
      .add_option("--system-prompt", options.system_prompt,
                  "How the conversation starts; over the configuration's. [default]")
      ->check(CLI::IsMember({"default", "empty", "none"}));
  command.add_option("--question", options.question, "Asked instead of each row's own question.");
}

Asking resolve_asking(const AskingOptions& options, bool with_images) {
  Asking asking;
  asking.model = options.model;
  if (!options.config.empty()) asking.data = asked_as_trained(options.config).data;
  if (!options.system_prompt.empty()) asking.data.system_prompt = options.system_prompt;
  if (!options.question.empty()) asking.data.question = options.question;
  if (with_images) asking.make_loader = image_loader_factory();
  return asking;
}

}  // namespace ferro
