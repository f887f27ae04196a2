#pragma once

#include <string>

#include "data/row.h"
#include "launch/commands.h"

namespace CLI {
class App;
}

namespace ferro {

/// The options that every command shares which puts a question to a model.
struct AskingOptions {
  std::string model, config, system_prompt, question;
};

void add_asking_options(CLI::App& command, AskingOptions& options);

/// What the options ask for: the configuration's data section where one is named, the command line over it.
/// Loads the image library when `with_images`.
Asking resolve_asking(const AskingOptions& options, bool with_images);

}  // namespace ferro
