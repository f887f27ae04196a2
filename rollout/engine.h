#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "data/rollout.h"
#include "data/tokenizer.h"
#include "model/model_folder.h"
#include "rollout/rollout_source.h"

namespace ferro {

struct EngineOptions {
  std::uint64_t seed = 0;
  std::int64_t kv_cache_tokens =
      65536;  ///< Rows of the key/value cache; a group waits until its rows are free.
  std::int64_t max_running_sequences = 512;
  std::int64_t prefill_tokens =
      8192;  ///< Most prompt tokens prefilled in one pass; a longer prompt goes alone.
};

struct EngineStats {
  std::int64_t prompt_tokens = 0, completion_tokens = 0, decode_steps = 0;
  double prefill_seconds = 0, decode_seconds = 0;
};

/// A step loop over a set of running sequences. Each step admits waiting groups while the cache has room
/// (prompts prefilled once per group, their keys shared by the G answers), then decodes one token of every
/// running sequence. Shares the trainer's weights: zero copies; call set_policy_version() after an optimizer
/// step, with nothing running. What a sequence samples depends on its own key and tokens only, never on what
/// else is running. One thread.
class RolloutEngine final : public RolloutSource {
 public:
  /// `model` and `tokenizer` must outlive the engine. on_token (optional) sees every token as it is sampled.
  RolloutEngine(const Model& model, const Tokenizer& tokenizer, EngineOptions options);
  ~RolloutEngine() override;

  /// Error{kConfig}: a group that can never fit the cache, with the numbers; an id outside the vocabulary;
  /// sampling settings out of range.
  void submit(RolloutRequest request) override;
  std::optional<RolloutGroup> receive() override;

  bool step();  ///< One pass; false when nothing is waiting or running.
  void set_policy_version(std::int64_t version);
  using TokenSink = std::function<void(std::int64_t sample_id, std::int32_t generation, std::int32_t token)>;
  void set_token_sink(TokenSink sink);
  /// Sees the model's own logits [V] (fp32, on the host) of every token before it is sampled.
  using LogitsSink =
      std::function<void(std::int64_t sample_id, std::int32_t generation, std::span<const float> logits)>;
  void set_logits_sink(LogitsSink sink);
  const EngineStats& stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ferro
