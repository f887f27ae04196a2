#include "trainer/grpo_generation.h"

#include <limits>
#include <utility>

#include "core/error.h"
#include "trainer/policy_setup.h"
#include "trainer/rollout_exchange.h"
#include "trainer/rollout_metrics.h"

namespace ferro {
namespace {

bool chooses(const GrpoConfig& config) {
  return config.curriculum.dynamic_sampling || config.curriculum.filters();
}

}  // namespace

RolloutSettings rollout_settings_of(const GrpoConfig& config, const ModelConfig& model) {
  RolloutSettings settings;
  settings.num_generations = config.num_generations;
  settings.advantages = config.advantages();
  settings.keep_unjudged = config.unjudged == "trl";
  settings.overlong_buffer = config.overlong_buffer;
  settings.overlong_penalty_factor = config.overlong_penalty_factor;
  settings.sampling.temperature = config.temperature;
  settings.sampling.top_p = config.top_p;
  settings.sampling.top_k = config.top_k;
  settings.sampling.min_p = config.min_p;
  settings.sampling.max_completion_length = config.max_completion_length;
  settings.sampling.stop_ids = model.stop_ids();
  settings.sampling.banned_ids = banned_ids_of(model);
  return settings;
}

PolicyLossConfig loss_settings_of(const GrpoConfig& config) {
  PolicyLossConfig loss = config.loss;
  loss.max_completion_length = config.max_completion_length;
  if (config.kl_in_reward) loss.beta = 0;
  return loss;
}

GenerationMaker::GenerationMaker(const GrpoConfig& config, Parts with, std::int64_t generations,
                                 const nlohmann::json& state)
    : config_(config),
      with_(with),
      stream_(with.rows.rows, with.rows.path, with.prompts,
              {.rows_per_step = config.prompts_per_generation(),
               .steps = chooses(config) ? std::numeric_limits<std::int64_t>::max() : generations,
               .seed = static_cast<std::uint64_t>(config.seed),
               .shuffle = config.data.shuffle,
               .augment = config.augmentation.enabled,
               .start = state.is_null() ? StreamPosition{} : StreamPosition::from_state(state.at("stream"))}),
      pass_rates_(config.curriculum),
      queue_(
          stream_, static_cast<std::int64_t>(with.rows.rows.size()),
          [this](const Sample& sample, std::int64_t epoch) {
            return pass_rates_.why_not(with_.rows.rows[static_cast<std::size_t>(sample.row)].id, epoch);
          },
          state.is_null() ? 0 : state.at("used").get<std::size_t>()) {
  if (state.is_null()) return;
  pass_rates_.restore(state.at("pass_rates"));
  tokens_seen_ = state.at("tokens_seen").get<std::int64_t>();
  if (state.at("waiting") != nlohmann::json(queue_.waiting()))
    fail(ErrorCode::kData, "the prompts that wait are not those of the checkpoint: did images of {} change?",
         with_.rows.path);
}

nlohmann::json GenerationMaker::state() const {
  return {{"stream", queue_.stream_position().state()},
          {"used", queue_.used()},
          {"waiting", queue_.waiting()},
          {"pass_rates", pass_rates_.state()},
          {"tokens_seen", tokens_seen_}};
}

Generation GenerationMaker::next() {
  Generation generation;
  RolloutBatch& rollouts = generation.rollouts;
  if (chooses(config_)) {
    collect_chosen(generation);
  } else {
    collect_step(generation);
  }
  with_.collector.finish(rollouts, config_.kl_in_reward ? penalties(rollouts) : std::vector<double>{});
  with_.recorder.set_aside(rollouts.set_aside);
  StepPlan plan = plan_steps(rollouts.groups, plan_settings());
  generation.parts = std::move(plan.parts);
  for (const JudgedGroup& group : rollouts.groups)
    generation.sample_ids.push_back(group.rollout.request.sample_id);
  // The first part's log-probs are those of its own step; the others' must be taken before it moves the
  // weights.
  for (std::size_t p = 1; p < generation.parts.size(); ++p)
    with_.step.score(generation.parts[p].micro_batches, generation.parts[p].states, false);
  with_.recorder.metrics.add(rollouts.metrics);
  with_.recorder.metrics.add(plan.metrics);
  with_.recorder.timing.add("time/rollout", rollouts.rollout_seconds);
  with_.recorder.timing.add("time/score", rollouts.score_seconds);
  if (rollouts.rollout_seconds > 0)
    with_.recorder.timing.add("rollout/tokens_per_second",
                              static_cast<double>(rollouts.completion_tokens) / rollouts.rollout_seconds);
  tokens_seen_ += rollouts.prompt_and_completion_tokens;
  generation.tokens_seen = tokens_seen_;
  return generation;
}

void GenerationMaker::collect_step(Generation& generation) {
  std::optional<SampleBatch> batch;
  {
    const PhaseTimer timer(with_.recorder.timing, "data", with_.clock);
    batch = stream_.next();
    FERRO_CHECK(batch.has_value(), "the stream of rows ended early");
  }
  with_.recorder.set_aside(batch->set_aside);
  generation.epochs_done = batch->epochs_done;
  with_.collector.add(*batch, generation.rollouts);
  note_pass_rates(generation.rollouts, 0);
}

// Prompts that the pass rates let through; with dynamic sampling again and again, until there are enough
// groups with signal.
void GenerationMaker::collect_chosen(Generation& generation) {
  const CurriculumConfig& curriculum = config_.curriculum;
  RolloutBatch& rollouts = generation.rollouts;
  const std::int64_t wanted = config_.prompts_per_generation();
  for (const char* reason : {"too_easy", "too_hard"})
    if (curriculum.filters()) rollouts.metrics[std::string("curriculum/") + reason] = 0;
  std::int64_t round = 0, missing = wanted;
  for (;; ++round) {
    PromptQueue::Taken taken;
    {
      const PhaseTimer timer(with_.recorder.timing, "data", with_.clock);
      taken = queue_.take(missing);
    }
    generation.epochs_done = taken.epochs_done;
    for (const auto& [reason, count] : taken.passed_over)
      rollouts.metrics["curriculum/" + reason] += static_cast<double>(count);
    const std::size_t before = rollouts.groups.size();
    for (const SampleBatch& batch : taken.batches) {
      with_.recorder.set_aside(batch.set_aside);
      if (!batch.samples.empty()) with_.collector.add(batch, rollouts);
    }
    note_pass_rates(rollouts, before);
    if (!curriculum.dynamic_sampling) break;
    with_.collector.drop_without_signal(rollouts);
    missing = wanted - static_cast<std::int64_t>(rollouts.groups.size());
    if (missing == 0 || round == curriculum.max_resample_rounds) break;
  }
  if (!curriculum.dynamic_sampling) return;
  rollouts.metrics["dynamic_sampling/rounds"] = static_cast<double>(round);
  rollouts.metrics["dynamic_sampling/missing"] = static_cast<double>(missing);
}

void GenerationMaker::note_pass_rates(const RolloutBatch& rollouts, std::size_t first) {
  if (!config_.curriculum.filters() && !config_.curriculum.save_pass_rates) return;
  for (std::size_t g = first; g < rollouts.groups.size(); ++g) {
    const JudgedGroup& group = rollouts.groups[g];
    const std::int64_t id = group.rollout.request.sample_id;
    const double rate = pass_rates_.note(id, group);
    if (config_.curriculum.save_pass_rates)
      with_.run.append("pass_rates.jsonl",
                       {{"epoch", group.rollout.request.epoch}, {"row", id}, {"pass_rate", rate}});
  }
}

// beta times the sum over an answer of log pi - log ref, both as they are before the first step.
std::vector<double> GenerationMaker::penalties(RolloutBatch& rollouts) {
  const PhaseTimer timer(with_.recorder.timing, "reference", with_.clock);
  StepPlanSettings settings = plan_settings();
  settings.steps_per_generation = 1;
  settings.mask_truncated_completions = false;
  settings.pack_all = true;
  settings.same_micro_batches = false;
  StepPart part = std::move(plan_steps(rollouts.groups, settings).parts[0]);
  with_.step.score(part.micro_batches, part.states, true);
  std::vector<std::vector<std::vector<float>>> old_logps, ref_logps;
  for (std::vector<AnswerState>& states : part.states) {
    old_logps.emplace_back();
    ref_logps.emplace_back();
    for (AnswerState& state : states) {
      old_logps.back().push_back(std::move(state.old_logps));
      ref_logps.back().push_back(std::move(state.ref_logps));
    }
  }
  old_logps = share_logps(std::move(old_logps), with_.world);
  ref_logps = share_logps(std::move(ref_logps), with_.world);
  std::vector<double> values;
  double sum = 0, tokens = 0;
  for (std::size_t g = 0; g < rollouts.groups.size(); ++g) {
    for (std::size_t i = 0; i < old_logps[g].size(); ++i) {
      const double kl = answer_kl(old_logps[g][i], ref_logps[g][i]);
      sum += kl;
      tokens += static_cast<double>(old_logps[g][i].size());
      values.push_back(config_.loss.beta * kl);
    }
    rollouts.groups[g].old_logps = std::move(old_logps[g]);
  }
  if (tokens > 0) rollouts.metrics["kl"] = sum / tokens;
  return values;
}

StepPlanSettings GenerationMaker::plan_settings() const {
  return {.steps_per_generation = config_.steps_per_generation,
          .max_tokens_per_micro_batch = config_.max_tokens_per_micro_batch,
          .mask_truncated_completions = config_.mask_truncated_completions,
          .pack_all = needs_groups_without_signal(loss_settings_of(config_)),
          .rank = with_.world.rank(),
          .ranks = with_.world.world_size(),
          .same_micro_batches = depends_on_micro_batches(loss_settings_of(config_))};
}

}  // namespace ferro
