#include <string>
#include <string_view>

#include "core/error.h"
#include "core/process_memory.h"
#include "launch/runtime/jobs.h"
#include "model/aten.h"

namespace ferro {
namespace {

/// LibTorch's own failures, in this program's terms. An allocation that fails is a c10::Error with a text,
/// not std::bad_alloc.
template <class Job>
auto in_our_terms(const Job& job) {
  try {
    return job();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorCode::kOutOfMemory, "device memory ran out: {}", error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (what.find("can't allocate memory") != std::string::npos)
      fail(ErrorCode::kOutOfMemory, "host memory ran out: {}", what);
    fail(ErrorCode::kInternal, "LibTorch: {}", what);
  }
}

constexpr RuntimeTable kTable{
    .version = FERRO_VERSION,
    .train_sft =
        [](const SftConfig& config, const TrainEnvironment& environment) {
          keep_freed_memory();
          in_our_terms([&] { train_sft(config, environment); });
        },
    .train_grpo =
        [](const GrpoConfig& config, const TrainEnvironment& environment) {
          keep_freed_memory();
          in_our_terms([&] { train_grpo(config, environment); });
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
