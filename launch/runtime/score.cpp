#include "trainer/score.h"

#include "launch/runtime/asked_model.h"
#include "launch/runtime/jobs.h"

namespace ferro {

std::vector<Answer> score_given(const ScoreRequestOnTexts& request) {
  const AskedModel asked(request.asking);
  const auto prompt = asked.prompts().build(request.row);
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
