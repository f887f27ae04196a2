#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "data/rollout.h"
#include "reward/scorer.h"
#include "rollout/rollout_source.h"
#include "trainer/sample_stream.h"

namespace ferro {

/// A group with its verdicts. values[function][answer].
struct JudgedGroup {
  std::int64_t row = 0;  ///< Index into the stream's rows.
  RolloutGroup rollout;
  std::vector<std::vector<std::optional<double>>> values;
  std::vector<double> rewards, advantages;  ///< [answers]
  bool has_signal = false;                  ///< Some advantage is not 0.
};

/// The judged groups of one generation, in data order.
struct RolloutBatch {
  std::vector<JudgedGroup> groups;
  std::vector<SetAsideRow>
      set_aside;  ///< "unjudged": a reward of one of the group's answers could not be computed.
  std::map<std::string, double> metrics;  ///< Rewards, completions, accuracy/<label>.
  std::int64_t completion_tokens = 0,
               prompt_and_completion_tokens = 0;  ///< The prompt counted with each answer.
  double rollout_seconds = 0, score_seconds = 0;
};

struct RolloutSettings {
  std::int64_t num_generations = 8;
  SamplingParams sampling;
  std::vector<double> reward_weights;
  std::string scale_rewards = "group";
};

/// Prompts in, judged groups out. One thread.
class RolloutCollector {
 public:
  /// All references must outlive it; `file` names the rows' data file.
  RolloutCollector(RolloutSource& source, Scorer& scorer, const std::vector<Row>& rows, std::string file,
                   RolloutSettings settings, const Clock& clock);
  RolloutBatch collect(const SampleBatch& batch);

 private:
  std::vector<RolloutGroup> sample(const SampleBatch& batch);
  bool judge(JudgedGroup& group, RolloutBatch& out);
  void add_advantages(RolloutBatch& out) const;
  void add_completion_metrics(RolloutBatch& out) const;
  void add_label_accuracy(RolloutBatch& out) const;

  RolloutSource& source_;
  Scorer& scorer_;
  const std::vector<Row>& rows_;
  const std::string file_;
  const RolloutSettings settings_;
  const Clock& clock_;
};

}  // namespace ferro
