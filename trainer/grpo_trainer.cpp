#include <algorithm>

#include <fmt/format.h>

#include "core/config_dump.h"
#include "core/error.h"
#include "core/log.h"
#include "rollout/engine.h"
#include "trainer/grpo_step.h"
#include "trainer/model_keeper.h"
#include "trainer/policy_setup.h"
#include "trainer/rollout_batch.h"
#include "trainer/run_recorder.h"
#include "trainer/sample_stream.h"
#include "trainer/step_updater.h"
#include "trainer/train.h"

namespace ferro {
namespace {

// One generation: prompts (stream thread) -> groups of answers (engine, on the trainer's own weights) ->
// verdicts -> advantages -> num_iterations optimizer steps on group-packed micro-batches -> the next policy
// version.
class GrpoTrainer {
 public:
  GrpoTrainer(const GrpoConfig& config, const TrainEnvironment& environment);
  void run();

 private:
  struct Generation {
    RolloutBatch rollouts;
    std::vector<AnsweredPrompt> groups;            // Those trained on.
    std::vector<std::vector<AnswerState>> states;  // [group][answer]
    std::vector<MicroBatch> micro_batches;
    LossNormaliser normaliser;
    std::vector<std::int64_t> sample_ids;
    double epochs_done = 0;
  };

  void describe();
  Generation generate(SampleStream& stream);
  void prepare(Generation& generation) const;
  void train_on(Generation& generation, std::int64_t step, std::int64_t iteration);
  void finish_step(std::int64_t step);
  void save(std::int64_t step);
  void write_rollouts(const Generation& generation, std::int64_t step);
  [[noreturn]] void diverged(const Generation& generation, std::int64_t step,
                             const StepUpdater::Reduced& reduced);
  static RolloutSettings rollout_settings(const GrpoConfig& config, const ModelConfig& model);
  static PolicyLossConfig loss_settings(const GrpoConfig& config);

  const GrpoConfig& config_;
  const TrainEnvironment& environment_;
  const Clock& clock_;
  Dataset rows_, evaluation_rows_;
  Model model_;
  std::optional<Model> reference_;
  PromptSource source_;
  RunFolder run_;
  std::shared_ptr<spdlog::logger> log_;
  std::vector<std::unique_ptr<Communicator>> world_;
  std::int64_t generations_, total_steps_;
  RunRecorder recorder_;
  ModelKeeper keeper_;
  RolloutEngine engine_;
  std::unique_ptr<Scorer> scorer_;
  RolloutCollector collector_;
  GrpoStep step_;
  StepUpdater updater_;
  std::int64_t tokens_seen_ = 0;
};

std::int64_t optimizer_steps(const GrpoConfig& config, std::size_t rows) {
  if (config.max_steps > 0) return config.max_steps;
  return config.num_train_epochs * config.num_iterations *
         steps_per_epoch(static_cast<std::int64_t>(rows), config.prompts_per_step);
}

GrpoTrainer::GrpoTrainer(const GrpoConfig& config, const TrainEnvironment& environment)
    : config_(config),
      environment_(environment),
      clock_(*environment.clock),
      rows_(load_training_rows(config.data, RowKind::kRl)),
      evaluation_rows_(config.data.eval_file.empty() ? Dataset{} : load_evaluation_rows(config.data)),
      model_(load_model(config.model_name_or_path, true)),
      reference_(config.loss.beta > 0 ? std::optional<Model>(load_model(config.model_name_or_path, false))
                                      : std::nullopt),
      source_(config.model_name_or_path, model_.config, config.data, config.augmentation, environment),
      run_(config.output_dir, config.overwrite_output_dir, clock_),
      log_(make_logger("grpo", "info", run_.path() / "log.txt")),
      world_(make_thread_communicators(1)),
      total_steps_(optimizer_steps(config, rows_.rows.size())),
      recorder_("grpo", total_steps_, config.logging_steps, run_, log_, clock_),
      keeper_(model_, source_.tokenizer(), source_.prompts(), evaluation_rows_,
              {.max_new_tokens = config.max_completion_length}, config.eval_steps > 0,
              config.model_name_or_path, run_, log_),
      engine_(model_, source_.tokenizer(),
              {.seed = static_cast<std::uint64_t>(config.seed),
               .kv_cache_tokens = config.kv_cache_tokens,
               .max_running_sequences = std::max<std::int64_t>(512, config.num_generations)}),
      scorer_(make_local_scorer(config.reward_functions)),
      collector_(engine_, *scorer_, rows_.rows, rows_.path, rollout_settings(config, model_.config), clock_),
      step_(model_, reference_ ? &*reference_ : nullptr, loss_settings(config),
            LayerWalk::recompute_of(config.recompute), banned_ids_of(model_.config), config.temperature),
      updater_(model_, config.optimizer, total_steps_, *world_[0]) {
  generations_ = (total_steps_ + config.num_iterations - 1) / config.num_iterations;
}

RolloutSettings GrpoTrainer::rollout_settings(const GrpoConfig& config, const ModelConfig& model) {
  RolloutSettings settings;
  settings.num_generations = config.num_generations;
  settings.reward_weights = config.reward_weights;
  settings.scale_rewards = config.scale_rewards;
  settings.sampling.temperature = config.temperature;
  settings.sampling.top_p = config.top_p;
  settings.sampling.top_k = config.top_k;
  settings.sampling.min_p = config.min_p;
  settings.sampling.max_completion_length = config.max_completion_length;
  settings.sampling.stop_ids = stop_ids_of(model);
  settings.sampling.banned_ids = banned_ids_of(model);
  return settings;
}

PolicyLossConfig GrpoTrainer::loss_settings(const GrpoConfig& config) {
  PolicyLossConfig loss = config.loss;
  loss.max_completion_length = config.max_completion_length;
  return loss;
}

void GrpoTrainer::describe() {
  run_.write_config(dump_yaml(config_));
  nlohmann::json facts = machine_facts(clock_, {"trainer", "rollout", "reward"});
  facts["job"] = "grpo";
  facts["seed"] = config_.seed;
  facts["model_name_or_path"] = config_.model_name_or_path;
  facts["data"]["train"] = data_facts(rows_);
  if (!evaluation_rows_.path.empty()) facts["data"]["eval"] = data_facts(evaluation_rows_);
  run_.write_provenance(facts);
  recorder_.set_aside(rows_.set_aside);
  recorder_.set_aside(evaluation_rows_.set_aside);
}

void GrpoTrainer::run() {
  describe();
  SampleStream stream(rows_.rows, rows_.path, source_.prompts(),
                      {.rows_per_step = config_.prompts_per_step,
                       .steps = generations_,
                       .seed = static_cast<std::uint64_t>(config_.seed),
                       .shuffle = config_.data.shuffle,
                       .augment = config_.augmentation.enabled});
  std::int64_t step = 0;
  while (step < total_steps_) {
    Generation generation = generate(stream);
    for (std::int64_t iteration = 0; iteration < config_.num_iterations && step < total_steps_; ++iteration) {
      ++step;
      if (iteration == 0 && config_.save_rollouts_steps > 0 && step % config_.save_rollouts_steps == 0)
        write_rollouts(generation, step);
      train_on(generation, step, iteration);
      finish_step(step);
    }
  }
  save(total_steps_);
}

void GrpoTrainer::finish_step(std::int64_t step) {
  const bool last = step == total_steps_;
  if (last || (config_.eval_steps > 0 && step % config_.eval_steps == 0))
    recorder_.log_at(step, keeper_.evaluate_at(step));
  if (last || !environment_.stop.stop_requested()) return;
  recorder_.stopped_after(step);
  save(step);
  fail(ErrorCode::kCheckpointed, "told to stop after step {} of {}; the model is in {}", step, total_steps_,
       run_.model_folder().string());
}

void GrpoTrainer::save(std::int64_t step) {
  keeper_.save(step);
  run_.write_provenance({{"set_aside", recorder_.set_aside_counts()}});
}

GrpoTrainer::Generation GrpoTrainer::generate(SampleStream& stream) {
  Generation generation;
  std::optional<SampleBatch> batch;
  {
    const PhaseTimer timer(recorder_.timing, "data", clock_);
    batch = stream.next();
    FERRO_CHECK(batch.has_value(), "the stream of rows ended before its {} generations", generations_);
  }
  recorder_.set_aside(batch->set_aside);
  generation.epochs_done = batch->epochs_done;
  generation.rollouts = collector_.collect(*batch);
  RolloutBatch& rollouts = generation.rollouts;
  recorder_.set_aside(rollouts.set_aside);
  recorder_.metrics.add(rollouts.metrics);
  recorder_.timing.add("time/rollout", rollouts.rollout_seconds);
  recorder_.timing.add("time/score", rollouts.score_seconds);
  if (rollouts.rollout_seconds > 0)
    recorder_.timing.add("rollout/tokens_per_second",
                         static_cast<double>(rollouts.completion_tokens) / rollouts.rollout_seconds);
  tokens_seen_ += rollouts.prompt_and_completion_tokens;
  prepare(generation);
  return generation;
}

// A group without signal has no gradient when nothing pulls to the reference: its answers count in the
// normaliser, but need no forward pass. (bnpo's normaliser is the micro-batch itself, so there they stay.)
void GrpoTrainer::prepare(Generation& generation) const {
  const bool all = config_.loss.beta > 0 || config_.loss.loss_type == "bnpo";
  for (const JudgedGroup& group : generation.rollouts.groups) {
    AnsweredPrompt answered{group.rollout.request.prompt, {}};
    std::vector<AnswerState> states;
    generation.sample_ids.push_back(group.rollout.request.sample_id);
    for (std::size_t i = 0; i < group.rollout.completions.size(); ++i) {
      const Completion& completion = group.rollout.completions[i];
      answered.answers.push_back(completion.token_ids);
      states.push_back({group.advantages[i], completion.logprobs, {}, {}});
      generation.normaliser.sequences_in_step += 1;
      generation.normaliser.tokens_in_step += static_cast<std::int64_t>(completion.token_ids.size());
    }
    if (!all && !group.has_signal) continue;
    generation.groups.push_back(std::move(answered));
    generation.states.push_back(std::move(states));
  }
  generation.micro_batches = pack_groups(generation.groups, config_.max_tokens_per_micro_batch);
  generation.normaliser.micro_batches = static_cast<std::int64_t>(generation.micro_batches.size());
}

void GrpoTrainer::train_on(Generation& generation, std::int64_t step, std::int64_t iteration) {
  MetricWindow& metrics = recorder_.metrics;
  StepUpdater::Reduced reduced;
  if (!generation.rollouts.groups.empty()) {
    const Stopwatch watch(clock_);
    updater_.zero_gradients();
    const GrpoStep::Outcome outcome =
        step_.run(generation.micro_batches, generation.states, generation.normaliser,
                  iteration == 0 && config_.num_iterations > 1, clock_);
    reduced = updater_.reduce(outcome.loss);
    const double seconds = watch.seconds() - outcome.reference_seconds;
    recorder_.timing.add("time/forward_backward", seconds);
    recorder_.timing.add("time/reference", outcome.reference_seconds);
    recorder_.timing.add("train/tokens_per_second", static_cast<double>(outcome.tokens) / seconds);
    if (!reduced.finite) diverged(generation, step, reduced);
    {
      const PhaseTimer timer(recorder_.timing, "optimizer", clock_);
      metrics.set("learning_rate", updater_.apply(reduced));
    }
    engine_.set_policy_version(updater_.steps_done());
    metrics.add("loss", reduced.loss);
    metrics.add("grad_norm", reduced.gradient_norm);
    metrics.add(metrics_of(outcome.sums));
  }
  metrics.set("epoch", generation.epochs_done);
  metrics.set("num_tokens", static_cast<double>(tokens_seen_));
  metrics.set("weights/version", static_cast<double>(updater_.steps_done()));
  const auto fact = [&](const char* name) {
    const auto at = generation.rollouts.metrics.find(name);
    return at == generation.rollouts.metrics.end() ? 0.0 : at->second;
  };
  recorder_.step_done(step, fmt::format("reward {:.3f} | length {:.1f} | grad {:.2f}", fact("reward"),
                                        fact("completions/mean_length"), reduced.gradient_norm));
}

void GrpoTrainer::write_rollouts(const Generation& generation, std::int64_t step) {
  const std::filesystem::path file =
      std::filesystem::path("rollouts") / fmt::format("step-{:06d}.jsonl", step);
  for (const JudgedGroup& group : generation.rollouts.groups) {
    const Row& row = rows_.rows[static_cast<std::size_t>(group.row)];
    for (std::size_t i = 0; i < group.rollout.completions.size(); ++i) {
      const Completion& completion = group.rollout.completions[i];
      nlohmann::ordered_json rewards;
      for (std::size_t f = 0; f < group.values.size(); ++f)
        rewards[scorer_->function_names()[f]] = group.values[f][i].value_or(0.0);
      run_.append(file, {{"sample_id", row.id},
                         {"epoch", group.rollout.request.epoch},
                         {"generation", i},
                         {"policy_version", completion.policy_version},
                         {"image_path", row.image_path},
                         {"solution", row.solution},
                         {"completion", completion.text},
                         {"tokens", completion.token_ids.size()},
                         {"stopped", completion.finish == FinishReason::kStop},
                         {"rewards", rewards},
                         {"advantage", group.advantages[i]}});
    }
  }
}

void GrpoTrainer::diverged(const Generation& generation, std::int64_t step,
                           const StepUpdater::Reduced& reduced) {
  run_.append("divergence.json", {{"step", step},
                                  {"loss", fmt::format("{}", reduced.loss)},
                                  {"grad_norm", fmt::format("{}", reduced.gradient_norm)},
                                  {"file", rows_.path},
                                  {"sample_ids", generation.sample_ids}});
  fail(ErrorCode::kDivergence,
       "step {}: loss {}, gradient norm {}: not finite, nothing was updated; the prompts are in {}; lower "
       "optimizer.learning_rate or look at them",
       step, reduced.loss, reduced.gradient_norm, (run_.path() / "divergence.json").string());
}

}  // namespace

void train_grpo(const GrpoConfig& config, const TrainEnvironment& environment) {
  FERRO_CHECK(environment.clock != nullptr && environment.make_loader,
              "a job needs a clock and an image loader");
  check_apart(config.output_dir, config.model_name_or_path);
  RunFolder::check_free(config.output_dir, config.overwrite_output_dir);
  GrpoTrainer(config, environment).run();
}

}  // namespace ferro
