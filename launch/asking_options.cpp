#include "launch/asking_options.h"

#include <CLI/CLI.hpp>

#include "launch/config_kinds.h"
#include "launch/plugins.h"

namespace ferro {

void add_asking_options(CLI::App& command, AskingOptions& options) {
  command.add_option("-m,--model", options.model, "Hugging Face model folder.")->required();
  command.add_option("--adapter", options.adapter,
                     "PEFT folder of a LoRA adapter on top of the model, such as a run's adapter/.");
  command.add_option(
      "-c,--config", options.config,
      "Training configuration: ask as it does (system prompt, question, answer length, image root).");
  command
      .add_option("--system-prompt", options.system_prompt,
                  "How the conversation starts; over the configuration's. [default]")
      ->check(CLI::IsMember({"default", "empty", "none"}));
  command.add_option("--question", options.question, "Asked instead of each row's own question.");
  command
      .add_option("--max-prompt-length", options.max_prompt_length,
                  "Longest prompt in tokens, those of images included; over the configuration's. [4096]")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
  command
      .add_option("--position-rule", options.position_rule,
                  "How video tokens are placed; over the configuration's. [hub]")
      ->check(CLI::IsMember({"hub", "transformers5"}));
}

Asking resolve_asking(const AskingOptions& options, bool with_images) {
  Asking asking;
  asking.model = options.model;
  asking.adapter = options.adapter;
  if (!options.config.empty()) asking.data = asked_as_trained(options.config).data;
  if (!options.system_prompt.empty()) asking.data.system_prompt = options.system_prompt;
  if (!options.question.empty()) asking.data.question = options.question;
  if (!options.position_rule.empty()) asking.data.position_rule = options.position_rule;
  if (options.max_prompt_length > 0) asking.data.max_prompt_length = options.max_prompt_length;
  if (with_images) asking.make_loader = image_loader_factory();
  return asking;
}

}  // namespace ferro
