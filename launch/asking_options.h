#pragma once

#include <cstdint>
#include <string>

#include "data/row.h"
#include "launch/commands.h"

namespace CLI {
class App;
}

namespace ferro {

/// The options that every command shares which puts a question to a model.
struct AskingOptions {
  std::string model, adapter, config, system_prompt, question, position_rule;
  std::int64_t max_prompt_length = 0;  ///< 0: the configuration's.
};

void add_asking_options(CLI::App& command, AskingOptions& options);

/// What the options ask for: the configuration's data section where one is named, the command line over it.
/// Loads the image library when `with_images`.
Asking resolve_asking(const AskingOptions& options, bool with_images);

}  // namespace ferro
