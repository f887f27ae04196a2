#include "launch/token_lines.h"

#include <array>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace ferro {

std::string token_line(std::size_t index, const AnswerToken& token) {
  std::array<char, 64> number{};
  std::snprintf(number.data(), number.size(), "%a", static_cast<double>(token.logprob));
  const std::string text =
      nlohmann::json(token.bytes).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string hex;
  for (const char byte : token.bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return fmt::format("{}\t{}\t{}\t{}\t{}\n", index, token.id, number.data(), text, hex);
}

std::string token_lines(std::size_t number, const Answer& answer) {
  std::string lines = fmt::format("# answer {}\n", number);
  for (std::size_t i = 0; i < answer.tokens.size(); ++i) lines += token_line(i, answer.tokens[i]);
  return lines;
}

std::string id_line(const Answer& answer) {
  std::string line;
  for (const AnswerToken& token : answer.tokens)
    line += fmt::format("{}{}", line.empty() ? "" : " ", token.id);
  return line;
}

}  // namespace ferro
