#include "trainer/score.h"

#include "data/packing.h"
#include "trainer/chunked_head.h"
#include "trainer/layer_walk.h"
#include "trainer/policy_setup.h"

namespace ferro {

std::vector<ScoredAnswer> score_answers(const Model& model, const Prompt& prompt,
                                        std::span<const std::vector<std::int32_t>> answers,
                                        double temperature) {
  BatchPacker packer;
  packer.add_group(prompt, answers);
  const PackedBatch batch = packer.finish();
  LayerWalk walk(model, LayerWalk::Recompute::kFull);
  const ChunkedHead head(model.weights.head, banned_ids_of(model.config), temperature);
  const ChunkedHead::Forward values = head.forward(walk.forward(batch, false), batch.targets);
  std::vector<ScoredAnswer> scored(answers.size());
  for (std::size_t t = 0; t < batch.targets.size(); ++t) {
    ScoredAnswer& answer = scored[static_cast<std::size_t>(batch.targets[t].sequence)];
    answer.token_ids.push_back(batch.targets[t].token);
    answer.logprobs.push_back(values.logprobs[t]);
    answer.entropies.push_back(values.entropies[t]);
  }
  return scored;
}

}  // namespace ferro
