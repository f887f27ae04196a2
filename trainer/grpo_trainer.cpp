#include <algorithm>

#include <fmt/format.h>

#include "core/config_dump.h"
#include "core/error.h"
#include "model/lora.h"
#include "rollout/engine.h"
#include "trainer/checkpoint_session.h"
#include "trainer/gradient_norms.h"
#include "trainer/grpo_generation.h"
#include "trainer/grpo_step.h"
#include "trainer/job_on_ranks.h"
#include "trainer/model_keeper.h"
#include "trainer/policy_setup.h"
#include "trainer/rank_sums.h"
#include "trainer/rank_world.h"
#include "trainer/rollout_batch.h"
#include "trainer/run_recorder.h"
#include "trainer/step_updater.h"
#include "trainer/train.h"
#include "trainer/trained_model.h"
#include "trainer/training_guard.h"

namespace ferro {
namespace {

// One generation: prompts (stream thread) -> groups of answers (engine, on the trainer's own weights) ->
// verdicts -> advantages -> num_iterations passes of steps_per_generation optimizer steps on group-packed
// micro-batches -> the next policy version.
class GrpoTrainer {
 public:
  GrpoTrainer(const GrpoConfig& config, const TrainEnvironment& environment, const RunStart& start,
              Communicator& world);
  void run();

 private:
  void describe();
  void train_on(const Generation& generation, StepPart& part, std::int64_t step, bool keep_logps);
  bool update(const Generation& generation, const StepUpdater::Reduced& reduced, std::int64_t step);
  void restore(const nlohmann::json& state);
  void evaluate_after(std::int64_t step);
  void keep(const GenerationMaker& maker, std::int64_t step);
  void left_bounds(std::int64_t step, const std::string& what);
  void save(std::int64_t step);
  void write_rollouts(const Generation& generation, std::int64_t step);
  [[noreturn]] void diverged(const Generation& generation, std::int64_t step,
                             const StepUpdater::Reduced& reduced);

  const GrpoConfig& config_;
  const TrainEnvironment& environment_;
  const Clock& clock_;
  std::unique_ptr<Scorer> scorer_;  ///< Early: a service that is not there is known before a model is loaded.
  const RunStart& start_;
  Communicator& world_;
  Dataset rows_, evaluation_rows_;
  Model model_;
  std::optional<Model> reference_;
  PromptSource source_;
  RunFolder run_;
  std::shared_ptr<spdlog::logger> log_;
  std::int64_t generations_, total_steps_;
  RunRecorder recorder_;
  ModelKeeper keeper_;
  RolloutEngine engine_;
  RolloutCollector collector_;
  GrpoStep step_;
  StepUpdater updater_;
  TrainingGuard guard_;
  CheckpointSession checkpoints_;
};

std::unique_ptr<Scorer> make_scorer(const GrpoConfig& config, const TrainEnvironment& environment) {
  if (config.reward_service.endpoints.empty()) return make_local_scorer(config.reward_functions);
  if (!environment.make_remote_scorer)
    fail(ErrorCode::kConfig, "reward_service.endpoints names a service, and this program cannot ask one");
  return environment.make_remote_scorer(config.reward_service, config.reward_functions);
}

std::int64_t optimizer_steps(const GrpoConfig& config, std::size_t rows) {
  if (config.max_steps > 0) return config.max_steps;
  return config.num_train_epochs * config.steps_of_generation() *
         steps_per_epoch(static_cast<std::int64_t>(rows), config.prompts_per_generation());
}

GrpoTrainer::GrpoTrainer(const GrpoConfig& config, const TrainEnvironment& environment, const RunStart& start,
                         Communicator& world)
    : config_(config),
      environment_(environment),
      clock_(*environment.clock),
      scorer_(make_scorer(config, environment)),
      start_(start),
      world_(world),
      rows_(load_training_rows(config.data, RowKind::kRl)),
      evaluation_rows_(config.data.eval_file.empty() ? Dataset{} : load_evaluation_rows(config.data)),
      model_(load_trained_model(starting_model(start, config.model_name_or_path, config.lora), config.train,
                                starting_adapter(start, config.lora),
                                static_cast<std::uint64_t>(config.seed))),
      reference_(config.loss.beta > 0
                     ? std::optional<Model>(load_reference(model_, config.model_name_or_path))
                     : std::nullopt),
      source_(config.model_name_or_path, model_.config, config.data, config.augmentation, environment),
      run_(config.output_dir, config.overwrite_output_dir || start.replace, start.keeps_folder(), clock_,
           world.rank() == 0),
      log_(make_run_logger("grpo", run_, world.rank())),
      total_steps_(optimizer_steps(config, rows_.rows.size())),
      recorder_("grpo", total_steps_, config.logging_steps, run_, log_, clock_),
      keeper_(model_, source_.tokenizer(), source_.prompts(), evaluation_rows_,
              {.max_new_tokens = config.max_completion_length}, config.eval_steps > 0,
              config.model_name_or_path, run_, log_),
      engine_(model_, source_.tokenizer(),
              {.seed = static_cast<std::uint64_t>(config.seed),
               .kv_cache_tokens = config.kv_cache_tokens,
               .max_running_sequences = std::max<std::int64_t>(512, config.num_generations)}),
      collector_(engine_, *scorer_, rows_.rows, rows_.path, rollout_settings_of(config, model_.config),
                 clock_, &world),
      step_(model_, reference_ ? &*reference_ : nullptr, loss_settings_of(config),
            LayerWalk::recompute_of(config.recompute), banned_ids_of(model_.config), config.temperature,
            config.rollout_correction),
      updater_(model_, config.optimizer, total_steps_, world, static_cast<std::uint64_t>(config.seed),
               config.ranks.shards_optimizer()),
      guard_(config.guard),
      checkpoints_({.job = "grpo",
                    .settings = config_values(config),
                    .model_folder = config.model_name_or_path,
                    .needs_base = config.lora.enabled() || config.loss.beta > 0,
                    .rows = &rows_,
                    .evaluation_rows = &evaluation_rows_,
                    .saving = config.saving},
                   start, run_, log_, clock_, world) {
  check_same_start(rows_, model_, world_);
  const std::int64_t steps = config.steps_of_generation();
  generations_ = (total_steps_ + steps - 1) / steps;
}

void GrpoTrainer::describe() {
  run_.write_config(settings_to_keep(config_));
  nlohmann::json facts = machine_facts(clock_, {"trainer", "rollout", "reward"});
  facts["job"] = "grpo";
  facts["seed"] = config_.seed;
  facts["model_name_or_path"] = config_.model_name_or_path;
  facts["data"]["train"] = data_facts(rows_);
  if (!evaluation_rows_.path.empty()) facts["data"]["eval"] = data_facts(evaluation_rows_);
  facts["incarnation"] = checkpoints_.incarnation();
  run_.write_provenance(facts);
  if (start_.resumed()) return;
  recorder_.set_aside(rows_.set_aside);
  recorder_.set_aside(evaluation_rows_.set_aside);
}

void GrpoTrainer::run() {
  if (checkpoints_.finished(total_steps_)) return;
  const nlohmann::json state = checkpoints_.resume(updater_);
  if (!state.is_null()) restore(state);
  describe();
  std::int64_t step = start_.step;
  GenerationMaker maker(
      config_, {collector_, step_, rows_, source_.prompts(), run_, recorder_, clock_, world_},
      generations_ - step / config_.steps_of_generation(), state.is_null() ? state : state.at("generation"));
  if (start_.resumed()) {
    evaluate_after(step);
  } else if (config_.eval_steps > 0) {
    recorder_.log_at(0, keeper_.evaluate_at(0));
  }
  std::int64_t tokens_seen = maker.tokens_seen();
  while (step < total_steps_) {
    Generation generation = maker.next();
    tokens_seen = generation.tokens_seen;
    if (config_.save_rollouts_steps > 0 && (step + 1) % config_.save_rollouts_steps == 0)
      write_rollouts(generation, step + 1);
    for (std::int64_t iteration = 0; iteration < config_.num_iterations; ++iteration) {
      for (StepPart& part : generation.parts) {
        if (step == total_steps_) break;
        train_on(generation, part, ++step, config_.num_iterations > 1);
        // A generation's last step is followed by its checkpoint first.
        if (step % config_.steps_of_generation() == 0) keep(maker, step);
        evaluate_after(step);
      }
    }
  }
  if (tokens_seen == 0) nothing_trained(rows_.path, total_steps_);
  save(total_steps_);
  run_.write_provenance({{"finished_steps", total_steps_}});
}

void GrpoTrainer::restore(const nlohmann::json& state) {
  recorder_.restore(state.at("recorder"));
  keeper_.restore(state.at("keeper"), checkpoints_.same_evaluation_rows());
  guard_.restore(state.at("guard"));
  engine_.set_policy_version(updater_.steps_done());
}

void GrpoTrainer::evaluate_after(std::int64_t step) {
  if (step == total_steps_ || (config_.eval_steps > 0 && step % config_.eval_steps == 0))
    recorder_.log_at(step, keeper_.evaluate_at(step));
}

// Between generations: what one holds is not kept. Before the evaluation: a resumed run begins with it.
void GrpoTrainer::keep(const GenerationMaker& maker, std::int64_t step) {
  const bool stop = step < total_steps_ && any_rank(environment_.stop.stop_requested(), world_);
  if (!stop && !checkpoints_.due(step, total_steps_)) return;
  checkpoints_.write(step, model_, updater_,
                     {{"generation", maker.state()},
                      {"recorder", recorder_.state()},
                      {"keeper", keeper_.state()},
                      {"guard", guard_.state()}});
  if (!stop) return;
  recorder_.stopped_after(step);
  save(step);
  stopped_at_checkpoint(step, total_steps_, run_.path());
}

void GrpoTrainer::save(std::int64_t step) {
  check_same_weights(step, model_, world_);
  keeper_.save(step);
  run_.write_provenance({{"set_aside", recorder_.set_aside_counts()}});
}

void GrpoTrainer::train_on(const Generation& generation, StepPart& part, std::int64_t step, bool keep_logps) {
  MetricWindow& metrics = recorder_.metrics;
  StepUpdater::Reduced reduced;
  std::map<std::string, double> values;
  const bool has_groups = !generation.rollouts.groups.empty();
  if (has_groups) {
    const Stopwatch watch(clock_);
    updater_.zero_gradients();
    const GrpoStep::Outcome outcome =
        step_.run(part.micro_batches, part.states, part.normaliser, keep_logps, clock_);
    reduced = updater_.reduce(outcome.loss, part.pictures);
    values = metrics_of(sums_over_ranks(outcome.sums, world_));
    if (config_.loss.entropy_coef != 0)
      metrics.add("policy_loss", updater_.sum_over_ranks(outcome.loss + outcome.entropy_bonus));
    const double seconds = watch.seconds() - outcome.reference_seconds;
    recorder_.timing.add("time/forward_backward", seconds);
    recorder_.timing.add("time/reference", outcome.reference_seconds);
    recorder_.timing.add("train/tokens_per_second",
                         updater_.sum_over_ranks(static_cast<double>(outcome.tokens)) / seconds);
    if (update(generation, reduced, step)) {
      metrics.add("loss", reduced.loss);
      metrics.add("grad_norm", reduced.gradient_norm);
      metrics.add("updates/zero_gradient", reduced.gradient_norm == 0 ? 1 : 0);
      metrics.add(values);
    }
  }
  metrics.add("updates/without_groups", has_groups ? 0 : 1);
  metrics.add("updates/without_signal", has_groups && part.groups_in_step == 0 ? 1 : 0);
  const std::string out_of_bounds = guard_.after_step(values);
  for (const auto& [name, value] : guard_.metrics()) metrics.set(name, value);
  metrics.set("epoch", generation.epochs_done);
  metrics.set("num_tokens", static_cast<double>(generation.tokens_seen));
  metrics.set("weights/version", static_cast<double>(updater_.steps_done()));
  const auto fact = [&](const char* name) {
    const auto at = generation.rollouts.metrics.find(name);
    return at == generation.rollouts.metrics.end() ? 0.0 : at->second;
  };
  recorder_.step_done(step, fmt::format("reward {:.3f} | length {:.1f} | grad {:.2f}", fact("reward"),
                                        fact("completions/mean_length"), reduced.gradient_norm));
  if (!out_of_bounds.empty()) left_bounds(step, out_of_bounds);
}

// False: the update was left out.
bool GrpoTrainer::update(const Generation& generation, const StepUpdater::Reduced& reduced,
                         std::int64_t step) {
  switch (guard_.before_update(reduced.finite)) {
    case TrainingGuard::Update::kStop:
      diverged(generation, step, reduced);
    case TrainingGuard::Update::kSkip:
      log_->warn("step {}: loss {}, gradient norm {}: the update is left out", step, reduced.loss,
                 reduced.gradient_norm);
      return false;
    case TrainingGuard::Update::kApply:
      break;
  }
  recorder_.metrics.add(gradient_norms_by_stage(updater_.trained()));
  {
    const PhaseTimer timer(recorder_.timing, "optimizer", clock_);
    recorder_.metrics.set("learning_rate", updater_.apply(reduced, guard_.rate_factor()));
  }
  engine_.set_policy_version(updater_.steps_done());
  return true;
}

void GrpoTrainer::left_bounds(std::int64_t step, const std::string& what) {
  if (!guard_.stops_on_divergence()) {
    log_->warn("step {}: {}: the learning rate is multiplied by {}", step, what, guard_.rate_factor());
    return;
  }
  recorder_.stopped_after(step);
  save(step);
  fail(ErrorCode::kDivergence,
       "step {}: {}; the model is in {}; lower optimizer.learning_rate or raise the bound", step, what,
       run_.model_folder().string());
}

void GrpoTrainer::write_rollouts(const Generation& generation, std::int64_t step) {
  if (!run_.writes()) return;
  const std::filesystem::path file =
      std::filesystem::path("rollouts") / fmt::format("step-{:06d}.jsonl", step);
  const std::vector<std::string>& functions = scorer_->function_names();
  for (const JudgedGroup& group : generation.rollouts.groups) {
    const Row& row = rows_.rows[static_cast<std::size_t>(group.row)];
    for (std::size_t i = 0; i < group.rollout.completions.size(); ++i) {
      const Completion& completion = group.rollout.completions[i];
      nlohmann::ordered_json rewards;
      for (std::size_t f = 0; f < group.values.size(); ++f)
        rewards[f < functions.size() ? functions[f] : kOverlongName] =
            group.values[f][i] ? nlohmann::ordered_json(*group.values[f][i]) : nlohmann::ordered_json();
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
  run_job_on_ranks<GrpoTrainer>(config, environment);
}

}  // namespace ferro
