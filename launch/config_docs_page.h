#pragma once

#include <string>

namespace ferro {

/// The text of docs/config.md, made from the configuration structs.
std::string config_docs_page();

}  // namespace ferro
