#include "trainer/score.h"

#include "core/error.h"
#include "launch/runtime/asked_model.h"
#include "launch/runtime/jobs.h"

namespace ferro {
namespace {

void check_ids(const std::vector<std::vector<std::int32_t>>& answers, std::int64_t vocab_size) {
  for (const auto& ids : answers)
    for (const std::int32_t id : ids)
      if (id < 0 || id >= vocab_size)
        fail(ErrorCode::kUsage, "--ids: {} is no token of this model, whose vocabulary has {}", id,
             vocab_size);
}

}  // namespace

std::vector<Answer> score_given(const ScoreRequestOnTexts& request) {
  const AskedModel asked(request.asking);
  check_ids(request.ids, asked.model().config.text.vocab_size);
  const auto prompt = asked.prompt(request.question);
  std::vector<std::vector<std::int32_t>> given;
  for (const std::string& response : request.responses)
    given.push_back(asked.prompts().encode_answer(response));
  given.insert(given.end(), request.ids.begin(), request.ids.end());

  // As the engine: greedy answers carry log-probs of temperature 1.
  const double temperature = request.temperature > 0 ? request.temperature : 1.0;
  std::vector<Answer> answers;
  for (const ScoredAnswer& scored : score_answers(asked.model(), *prompt, given, temperature)) {
    Answer& answer =
        answers.emplace_back(Answer{{}, asked.tokenizer().decode(scored.token_ids, true), "given"});
    for (std::size_t i = 0; i < scored.token_ids.size(); ++i)
      answer.tokens.push_back(asked.token(scored.token_ids[i], scored.logprobs[i]));
  }
  return answers;
}

}  // namespace ferro
