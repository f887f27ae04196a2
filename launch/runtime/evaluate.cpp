#include <algorithm>
#include <cstdint>
#include <utility>

#include "launch/runtime/asked_model.h"
#include "launch/runtime/jobs.h"
#include "trainer/evaluation.h"

namespace ferro {

EvalOutcome evaluate_model(const EvalRequest& request) {
  const AskedModel asked(request.asking);
  const std::int64_t batch_rows =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(request.rows.size()), 1, request.batch_rows);
  asked.check_cache(batch_rows * request.max_new_tokens, "--max-new-tokens or --batch-rows");
  EvaluationResult result = evaluate(
      asked.model(), asked.tokenizer(), asked.prompts(), request.rows,
      {.max_new_tokens = request.max_new_tokens, .batch_rows = batch_rows, .dataset = request.dataset});
  EvalOutcome outcome{
      std::move(result.report), {}, result.set_aside, result.mean_completion_length, result.format_rate};
  for (EvaluatedRow& row : result.rows)
    outcome.predictions.push_back({row.id, std::move(row.image_path), std::move(row.truth),
                                   std::move(row.predicted), std::move(row.response)});
  return outcome;
}

}  // namespace ferro
