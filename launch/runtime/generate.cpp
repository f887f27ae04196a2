#include <optional>
#include <string>

#include "core/error.h"
#include "launch/runtime/asked_model.h"
#include "launch/runtime/jobs.h"
#include "rollout/engine.h"

namespace ferro {
namespace {

const char* name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAborted:
      return "aborted";
  }
  return "";
}

SamplingParams sampling_of(const GenerateRequest& request, const AskedModel& asked) {
  SamplingParams sampling = asked.sampling_rules();
  sampling.temperature = request.temperature;
  sampling.top_p = request.top_p;
  sampling.top_k = request.top_k;
  sampling.min_p = request.min_p;
  sampling.max_completion_length = request.max_new_tokens;
  return sampling;
}

}  // namespace

std::vector<Answer> generate_answers(const GenerateRequest& request) {
  const AskedModel asked(request.asking);
  const RolloutRequest question{.sample_id = 0,
                                .epoch = 0,
                                .num_generations = request.num_generations,
                                .prompt = asked.prompt(request.question),
                                .sampling = sampling_of(request, asked)};
  const auto rows = static_cast<std::int64_t>(question.prompt->ids.size()) +
                    request.num_generations * request.max_new_tokens;
  asked.check_cache(rows + 1024, "--max-new-tokens or --num-generations");
  RolloutEngine engine(asked.model(), asked.tokenizer(),
                       {.seed = request.seed, .kv_cache_tokens = rows + 1024});
  StreamDecoder decoder(asked.tokenizer(), true);
  if (request.on_text) {
    engine.set_token_sink([&](std::int64_t /*sample*/, std::int32_t generation, std::int32_t token) {
      if (generation == 0) request.on_text(decoder.push(token));
    });
  }
  engine.submit(question);
  const std::optional<RolloutGroup> group = engine.receive();
  FERRO_CHECK(group.has_value(), "the engine returned no group for {} answers", request.num_generations);
  if (request.on_text) request.on_text(decoder.finish());

  std::vector<Answer> answers;
  for (const Completion& completion : group->completions) {
    Answer& answer = answers.emplace_back(Answer{{}, completion.text, name_of(completion.finish)});
    for (std::size_t i = 0; i < completion.token_ids.size(); ++i)
      answer.tokens.push_back(asked.token(completion.token_ids[i], completion.logprobs[i]));
  }
  return answers;
}

}  // namespace ferro
