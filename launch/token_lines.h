#pragma once

#include <cstddef>
#include <string>

#include "launch/commands.h"

namespace ferro {

/// "<index>\t<id>\t<log-prob as C99 hex float>\t<text as a JSON string>\t<bytes in hex>": exact, and the same
/// from generate and score, so that `diff` compares the engine's log-probs with the trainer's. A token may
/// hold a part of a character: the text then has U+FFFD, the bytes are those of the token.
std::string token_line(std::size_t index, const AnswerToken& token);

/// All lines of an answer under a line "# answer <number>".
std::string token_lines(std::size_t number, const Answer& answer);

/// "12 7 3"
std::string id_line(const Answer& answer);

}  // namespace ferro
