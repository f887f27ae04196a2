#include "trainer/validation.h"

#include <algorithm>

#include "data/packing.h"
#include "trainer/chunked_head.h"
#include "trainer/layer_walk.h"
#include "trainer/policy_setup.h"
#include "trainer/row_packing.h"
#include "trainer/sample_stream.h"

namespace ferro {
namespace {

class LossSums {
 public:
  explicit LossSums(const Model& model)
      : walk_(model, LayerWalk::Recompute::kFull),
        head_(model.weights.head, banned_ids_of(model.config), 1.0) {}

  void add(const PackedBatch& batch) {
    if (batch.targets.empty()) return;
    const ChunkedHead::Forward values = head_.forward(walk_.forward(batch, false), batch.targets);
    for (const float logprob : values.logprobs) sums_.loss -= static_cast<double>(logprob);
    for (const std::uint8_t correct : values.correct) sums_.token_accuracy += correct;
    sums_.targets += static_cast<std::int64_t>(values.logprobs.size());
  }
  Validation means() const {
    const auto count = static_cast<double>(std::max<std::int64_t>(1, sums_.targets));
    return {sums_.loss / count, sums_.token_accuracy / count, sums_.targets};
  }

 private:
  LayerWalk walk_;
  ChunkedHead head_;
  Validation sums_;
};

}  // namespace

Validation validate(const Model& model, const PromptBuilder& prompts, const std::vector<Row>& all_rows,
                    const ValidationOptions& options) {
  std::vector<Row> rows;
  std::copy_if(all_rows.begin(), all_rows.end(), std::back_inserter(rows),
               [](const Row& row) { return !row.response.empty(); });
  if (rows.empty()) return {};
  constexpr std::int64_t kRowsPerStep = 32;
  const auto count = static_cast<std::int64_t>(rows.size());
  SampleStream stream(rows, "validation", prompts,
                      {.rows_per_step = kRowsPerStep,
                       .steps = steps_per_epoch(count, kRowsPerStep),
                       .shuffle = false,
                       .with_answers = true});
  LossSums sums(model);
  while (const std::optional<SampleBatch> batch = stream.next())
    for (const PackedBatch& packed :
         pack_rows(batch->samples, {.all_tokens = options.all_tokens, .max_tokens = options.max_tokens},
                   prompts.vision_tokens()))
      sums.add(packed);
  return sums.means();
}

}  // namespace ferro
