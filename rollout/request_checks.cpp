#include "rollout/request_checks.h"

#include <cmath>
#include <limits>
#include <span>

#include "core/error.h"

namespace ferro {
namespace {

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocabulary, ErrorCode code, const char* what) {
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocabulary)
      fail(code, "{} {} is outside the model's vocabulary of {}", what, id, vocabulary);
  }
}

void check_sampling(const SamplingParams& sampling, std::int64_t vocabulary) {
  const auto check = [](bool holds, const char* name, double value, const char* rule) {
    if (!holds || !std::isfinite(value))
      fail(ErrorCode::kConfig, "sampling: {} {} must be {}", name, value, rule);
  };
  check(sampling.temperature >= 0, "temperature", sampling.temperature, "at least 0");
  check(sampling.top_p > 0 && sampling.top_p <= 1, "top_p", sampling.top_p, "in (0, 1]");
  check(sampling.top_k >= 0, "top_k", static_cast<double>(sampling.top_k), "at least 0");
  check(sampling.min_p >= 0 && sampling.min_p <= 1, "min_p", sampling.min_p, "in [0, 1]");
  check(sampling.repetition_penalty > 0, "repetition_penalty", sampling.repetition_penalty, "above 0");
  check(sampling.max_completion_length >= 1 &&
            sampling.max_completion_length < std::numeric_limits<std::int32_t>::max(),
        "max_completion_length", static_cast<double>(sampling.max_completion_length),
        "at least 1 and below 2^31 - 1");
  check_ids(sampling.stop_ids, vocabulary, ErrorCode::kConfig, "stop id");
  check_ids(sampling.banned_ids, vocabulary, ErrorCode::kConfig, "banned id");
}

}  // namespace

std::int32_t answer_rows(const SamplingParams& sampling) {
  return static_cast<std::int32_t>(sampling.max_completion_length - 1);
}

void check_request(const RolloutRequest& request, const ModelConfig& model, const EngineOptions& options) {
  check_sampling(request.sampling, model.text.vocab_size);
  if (request.num_generations < 1 || request.num_generations > options.max_running_sequences)
    fail(ErrorCode::kConfig, "sample {}: {} generations, the engine runs 1 to {} (max_running_sequences)",
         request.sample_id, request.num_generations, options.max_running_sequences);
  FERRO_CHECK(request.prompt != nullptr && !request.prompt->ids.empty(), "sample {} has no prompt",
              request.sample_id);
  check_ids(request.prompt->ids, model.text.vocab_size, ErrorCode::kData, "prompt id");
  const auto prompt_rows = static_cast<std::int64_t>(request.prompt->ids.size());
  const std::int64_t rows =
      prompt_rows + std::int64_t{request.num_generations} * answer_rows(request.sampling);
  if (rows > options.kv_cache_tokens)
    fail(ErrorCode::kConfig,
         "sample {}: a prompt of {} tokens with {} answers of up to {} needs {} cache rows, kv_cache_tokens "
         "is {}: raise it, or lower "
         "num_generations or max_completion_length",
         request.sample_id, prompt_rows, request.num_generations, request.sampling.max_completion_length,
         rows, options.kv_cache_tokens);
}

}  // namespace ferro
