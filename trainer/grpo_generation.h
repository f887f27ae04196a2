#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/dataset_reader.h"
#include "data/prompt_builder.h"
#include "model/config.h"
#include "trainer/grpo_config.h"
#include "trainer/grpo_step.h"
#include "trainer/pass_rates.h"
#include "trainer/prompt_queue.h"
#include "trainer/rollout_batch.h"
#include "trainer/run_folder.h"
#include "trainer/run_recorder.h"
#include "trainer/sample_stream.h"
#include "trainer/step_plan.h"

namespace ferro {

/// How a run samples and judges, and the loss it trains on: without a KL term where that is in the reward.
RolloutSettings rollout_settings_of(const GrpoConfig& config, const ModelConfig& model);
PolicyLossConfig loss_settings_of(const GrpoConfig& config);

/// Judged groups, cut into the parts that optimizer steps train on.
struct Generation {
  RolloutBatch rollouts;
  std::vector<StepPart> parts;           ///< [steps_per_generation]
  std::vector<std::int64_t> sample_ids;  ///< Of the groups.
  double epochs_done = 0;                ///< Of the data, after it.
  std::int64_t tokens_seen = 0;          ///< Prompt and answer tokens since the run began.
};

/// Rows -> prompts (stream thread) -> groups of answers -> verdicts -> advantages -> parts. Every rank
/// prepares all prompts, samples and judges its part of them, and then has all groups; what it trains on is
/// its share of each step's. One thread per rank.
class GenerationMaker {
 public:
  /// What it works with; all must outlive it.
  struct Parts {
    RolloutCollector& collector;
    GrpoStep& step;
    const Dataset& rows;
    const PromptBuilder& prompts;
    RunFolder& run;
    RunRecorder& recorder;
    const Clock& clock;
    Communicator& world;
  };
  /// The stream of rows is made for `generations` generations. `state`: of the maker whose generations these
  /// follow; null: the first.
  GenerationMaker(const GrpoConfig& config, Parts with, std::int64_t generations,
                  const nlohmann::json& state);
  /// The next generation, sampled with the weights as they are; metrics and rows set aside go to the
  /// recorder. A collective.
  Generation next();
  /// Data position, prompts that wait, pass rates, tokens: between two generations.
  nlohmann::json state() const;
  std::int64_t tokens_seen() const { return tokens_seen_; }

 private:
  void collect_step(Generation& generation);
  void collect_chosen(Generation& generation);
  void note_pass_rates(const RolloutBatch& rollouts, std::size_t first);
  std::vector<double> penalties(RolloutBatch& rollouts);
  StepPlanSettings plan_settings() const;

  const GrpoConfig& config_;
  Parts with_;
  SampleStream stream_;
  PassRates pass_rates_;
  PromptQueue queue_;
  std::int64_t tokens_seen_ = 0;
};

}  // namespace ferro
