#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "data/rollout.h"
#include "model/dist/communicator.h"
#include "reward/scorer.h"
#include "rollout/rollout_source.h"
#include "trainer/advantages.h"
#include "trainer/sample_stream.h"

namespace ferro {

/// A group with its verdicts. values[function][answer]: of the reward functions, then, where there is one, of
/// the overlong penalty.
struct JudgedGroup {
  std::int64_t row = 0;  ///< Index into the stream's rows.
  RolloutGroup rollout;
  std::vector<OptionalRewards> values;
  OptionalRewards rewards;         ///< [answers]
  std::vector<double> advantages;  ///< [answers]
  bool has_signal = false;         ///< Some advantage is not 0.
  /// [answers][tokens] of the policy at generation, where they were needed before the first step; else empty.
  std::vector<std::vector<float>> old_logps;
};

/// The judged groups of one generation, in data order.
struct RolloutBatch {
  std::vector<JudgedGroup> groups;
  std::vector<SetAsideRow> set_aside;     ///< "unjudged": a reward of one of the group's answers could not be
                                          ///< computed. "no_signal": dropped by drop_without_signal.
  std::map<std::string, double> metrics;  ///< Rewards, completions, accuracy/<label>.
  std::int64_t completion_tokens = 0,
               prompt_and_completion_tokens = 0;  ///< The prompt counted with each answer.
  double rollout_seconds = 0, score_seconds = 0;
};

struct RolloutSettings {
  std::int64_t num_generations = 8;
  SamplingParams sampling;
  AdvantageSettings advantages;
  bool keep_unjudged = false;        ///< As TRL does: an answer without a reward stays, with advantage 0.
  std::int64_t overlong_buffer = 0;  ///< DAPO's soft punishment over the last so many tokens; 0: none.
  double overlong_penalty_factor = 1;
};

/// The name of the overlong penalty among the reward functions.
inline constexpr const char* kOverlongName = "overlong";

/// 0 up to `longest` - `buffer` tokens, then falling to -1 at `longest`. Source: DAPO, arXiv 2503.14476,
/// equation 13.
double overlong_penalty(std::int64_t length, std::int64_t longest, std::int64_t buffer);

/// Prompts in, judged groups out. One thread.
class RolloutCollector {
 public:
  /// All references must outlive it; `file` names the rows' data file. `ranks`: each samples and judges its
  /// part of a batch, then all have all; null: alone.
  RolloutCollector(RolloutSource& source, Scorer& scorer, const std::vector<Row>& rows, std::string file,
                   RolloutSettings settings, const Clock& clock, Communicator* ranks = nullptr);

  /// Samples and judges; groups are added to `out` in data order. Counts "rewards/<f>/unjudged" and
  /// "/not_finite". A collective.
  void add(const SampleBatch& batch, RolloutBatch& out);
  /// Takes the groups whose rewards agree out of `out`, names them, and counts
  /// "dynamic_sampling/dropped_high" (a reward above 0) and "/dropped_low".
  void drop_without_signal(RolloutBatch& out) const;
  /// Advantages and metrics of the groups of `out`. `penalties` [answers of all groups]: taken off the
  /// rewards; empty: none.
  void finish(RolloutBatch& out, std::span<const double> penalties) const;
  /// add() and finish().
  RolloutBatch collect(const SampleBatch& batch);

 private:
  RolloutRequest request_of(const SampleBatch& batch, std::size_t sample) const;
  std::vector<RolloutGroup> sample(const SampleBatch& batch, std::size_t begin, std::size_t end);
  GroupVerdicts score(const RolloutGroup& group, const Row& row);
  bool judge(JudgedGroup& group, const GroupVerdicts& verdicts, RolloutBatch& out) const;
  std::vector<std::string> names() const;
  void add_advantages(RolloutBatch& out, std::span<const double> penalties) const;
  void add_completion_metrics(RolloutBatch& out) const;
  void add_label_metrics(RolloutBatch& out) const;

  RolloutSource& source_;
  Scorer& scorer_;
  const std::vector<Row>& rows_;
  const std::string file_;
  RolloutSettings settings_;
  const Clock& clock_;
  Communicator* ranks_;
};

}  // namespace ferro
