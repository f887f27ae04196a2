#include <string>
#include <string_view>

#include "core/process_memory.h"
#include "launch/runtime/jobs.h"
#include "launch/runtime/rank_group.h"
#include "model/torch_errors.h"

namespace ferro {
namespace {

constexpr RuntimeTable kTable{
    .version = FERRO_VERSION,
    .train_sft =
        [](const SftConfig& config, const TrainEnvironment& environment) {
          keep_freed_memory();
          in_our_terms([&] {
            on_this_rank(config.ranks, environment,
                         [&](const TrainEnvironment& own) { train_sft(config, own); });
          });
        },
    .train_grpo =
        [](const GrpoConfig& config, const TrainEnvironment& environment) {
          keep_freed_memory();
          in_our_terms([&] {
            on_this_rank(config.ranks, environment,
                         [&](const TrainEnvironment& own) { train_grpo(config, own); });
          });
        },
    .evaluate =
        [](const EvalRequest& request) {
          keep_freed_memory();
          return in_our_terms([&] { return evaluate_model(request); });
        },
    .generate =
        [](const GenerateRequest& request) {
          return in_our_terms([&] { return generate_answers(request); });
        },
    .score =
        [](const ScoreRequestOnTexts& request) { return in_our_terms([&] { return score_given(request); }); },
    .init_model =
        [](const ModelInitRequest& request) { return in_our_terms([&] { return make_model(request); }); },
    .inspect_model =
        [](const InspectRequest& request) { return in_our_terms([&] { return describe_model(request); }); },
    .plan = [](const PlanRequest& request) { return in_our_terms([&] { return plan_run(request); }); },
    .merge_adapter =
        [](const MergeRequest& request) { return in_our_terms([&] { return merge_adapter(request); }); },
};

}  // namespace
}  // namespace ferro

extern "C" const ferro::RuntimeTable* ferro_runtime_table() {
  return &ferro::kTable;
}
