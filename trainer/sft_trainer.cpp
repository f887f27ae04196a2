#include <algorithm>

#include <fmt/format.h>

#include "core/config_dump.h"
#include "core/error.h"
#include "trainer/checkpoint_session.h"
#include "trainer/job_on_ranks.h"
#include "trainer/model_keeper.h"
#include "trainer/policy_setup.h"
#include "trainer/rank_world.h"
#include "trainer/row_packing.h"
#include "trainer/run_recorder.h"
#include "trainer/sample_stream.h"
#include "trainer/sft_step.h"
#include "trainer/train.h"
#include "trainer/trained_model.h"

namespace ferro {
namespace {

/// Loss on the evaluation rows where they hold responses.
KeptBy validation_of(const SftConfig& config, const Dataset& rows) {
  KeptBy kept;
  kept.loss.all_tokens = config.loss_on == "all";
  if (config.max_tokens_per_micro_batch > 0) kept.loss.max_tokens = config.max_tokens_per_micro_batch;
  kept.with_loss =
      std::any_of(rows.rows.begin(), rows.rows.end(), [](const Row& row) { return !row.response.empty(); });
  kept.by_loss = config.metric_for_best_model == "eval_loss";
  if (kept.by_loss && !kept.with_loss)
    fail(ErrorCode::kConfig,
         "metric_for_best_model is eval_loss, but data.eval_file `{}` holds no row with a response",
         config.data.eval_file);
  return kept;
}

// Rows -> prompts (stream thread) -> micro-batches -> loss and gradients -> update; evaluation and saving
// between steps.
class SftTrainer {
 public:
  SftTrainer(const SftConfig& config, const TrainEnvironment& environment, const RunStart& start,
             Communicator& world)
      : config_(config),
        environment_(environment),
        start_(start),
        world_(world),
        rows_(load_training_rows(config.data, RowKind::kSft)),
        evaluation_rows_(config.data.eval_file.empty() ? Dataset{} : load_evaluation_rows(config.data)),
        model_(load_trained_model(starting_model(start, config.model_name_or_path, config.lora), config.train,
                                  starting_adapter(start, config.lora),
                                  static_cast<std::uint64_t>(config.seed))),
        source_(config.model_name_or_path, model_.config, config.data, config.augmentation, environment),
        run_(config.output_dir, config.overwrite_output_dir || start.replace, start.keeps_folder(),
             *environment.clock, world.rank() == 0),
        log_(make_run_logger("sft", run_, world.rank())),
        rows_per_step_(config.per_device_train_batch_size * config.gradient_accumulation_steps),
        total_steps_(config.max_steps > 0
                         ? config.max_steps
                         : config.num_train_epochs *
                               steps_per_epoch(static_cast<std::int64_t>(rows_.rows.size()), rows_per_step_)),
        recorder_("sft", total_steps_, config.logging_steps, run_, log_, *environment.clock),
        keeper_(model_, source_.tokenizer(), source_.prompts(), evaluation_rows_,
                {.max_new_tokens = config.max_new_tokens}, config.eval_steps > 0, config.model_name_or_path,
                run_, log_, validation_of(config, evaluation_rows_)),
        step_(model_, LayerWalk::recompute_of(config.recompute), banned_ids_of(model_.config),
              config.optimizer, total_steps_, world, *environment.clock,
              static_cast<std::uint64_t>(config.seed), config.ranks.shards_optimizer()),
        checkpoints_({.job = "sft",
                      .settings = config_values(config),
                      .model_folder = config.model_name_or_path,
                      .needs_base = config.lora.enabled(),
                      .rows = &rows_,
                      .evaluation_rows = &evaluation_rows_,
                      .saving = config.saving},
                     start, run_, log_, *environment.clock, world) {
    check_same_start(rows_, model_, world_);
  }

  void run() {
    if (checkpoints_.finished(total_steps_)) return;
    StreamPosition position;
    if (const nlohmann::json state = checkpoints_.resume(step_.updater()); !state.is_null())
      position = restore(state);
    describe();
    SampleStream stream(rows_.rows, rows_.path, source_.prompts(),
                        {.rows_per_step = rows_per_step_,
                         .steps = total_steps_ - start_.step,
                         .seed = static_cast<std::uint64_t>(config_.seed),
                         .shuffle = config_.data.shuffle,
                         .augment = config_.augmentation.enabled,
                         .with_answers = true,
                         .start = position,
                         .rank = world_.rank(),
                         .world_size = world_.world_size()});
    if (start_.resumed()) {
      evaluate_after(start_.step);
    } else if (config_.eval_on_start) {
      recorder_.log_at(0, keeper_.evaluate_at(0));
    }
    for (std::int64_t step = start_.step + 1; step <= total_steps_; ++step) {
      std::optional<SampleBatch> batch = next_batch(stream);
      const std::int64_t samples = join_ranks(*batch, stream, rows_.rows.size(), world_);
      recorder_.set_aside(batch->set_aside);
      train_on(*batch, samples, step);
      keep(stream, step);
      evaluate_after(step);
    }
    if (tokens_seen_ == 0) nothing_trained(rows_.path, total_steps_);
    save(total_steps_);
    run_.write_provenance({{"finished_steps", total_steps_}});
  }

 private:
  StreamPosition restore(const nlohmann::json& state) {
    recorder_.restore(state.at("recorder"));
    keeper_.restore(state.at("keeper"), checkpoints_.same_evaluation_rows());
    tokens_seen_ = state.at("tokens_seen").get<std::int64_t>();
    return StreamPosition::from_state(state.at("stream"));
  }

  // Before the evaluation: a resumed run begins with it.
  void keep(const SampleStream& stream, std::int64_t step) {
    const bool stop = step < total_steps_ && any_rank(environment_.stop.stop_requested(), world_);
    if (!stop && !checkpoints_.due(step, total_steps_)) return;
    checkpoints_.write(step, model_, step_.updater(),
                       {{"stream", stream.position().state()},
                        {"recorder", recorder_.state()},
                        {"keeper", keeper_.state()},
                        {"tokens_seen", tokens_seen_}});
    if (!stop) return;
    recorder_.stopped_after(step);
    save(step);
    stopped_at_checkpoint(step, total_steps_, run_.path());
  }

  void evaluate_after(std::int64_t step) {
    if (step == total_steps_ || (config_.eval_steps > 0 && step % config_.eval_steps == 0))
      recorder_.log_at(step, keeper_.evaluate_at(step));
  }

  void describe() {
    run_.write_config(settings_to_keep(config_));
    nlohmann::json facts = machine_facts(*environment_.clock, {"trainer"});
    facts["job"] = "sft";
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

  void save(std::int64_t step) {
    check_same_weights(step, model_, world_);
    keeper_.save(step);
    run_.write_provenance({{"set_aside", recorder_.set_aside_counts()}});
  }

  std::optional<SampleBatch> next_batch(SampleStream& stream) {
    const PhaseTimer timer(recorder_.timing, "data", *environment_.clock);
    std::optional<SampleBatch> batch = stream.next();
    FERRO_CHECK(batch.has_value(), "the stream of rows ended before its {} steps", total_steps_);
    return batch;
  }

  std::vector<PackedBatch> pack(const SampleBatch& batch) const {
    RowPackingOptions options{.all_tokens = config_.loss_on == "all",
                              .max_tokens = config_.max_tokens_per_micro_batch};
    if (options.max_tokens == 0) options.max_rows = config_.per_device_train_batch_size;
    return pack_rows(batch.samples, options, source_.prompts().vision_tokens());
  }

  // `samples`: of all ranks.
  void train_on(const SampleBatch& batch, std::int64_t samples, std::int64_t step) {
    MetricWindow& metrics = recorder_.metrics;
    SftStep::Outcome outcome;
    double rate = 0;
    if (samples > 0) {
      outcome = step_.gradients(pack(batch));
      if (!outcome.reduced.finite) diverged(batch, step, outcome.reduced);
      rate = step_.apply(outcome);
      metrics.add("loss", outcome.reduced.loss);
      metrics.add("grad_norm", outcome.reduced.gradient_norm);
      metrics.add(metrics_of(outcome.sums));
      metrics.set("learning_rate", rate);
      recorder_.timing.add("time/forward_backward", outcome.forward_backward_seconds);
      recorder_.timing.add("time/optimizer", outcome.optimizer_seconds);
      recorder_.timing.add("train/tokens_per_second",
                           static_cast<double>(outcome.tokens) / outcome.forward_backward_seconds);
    }
    tokens_seen_ += outcome.tokens;
    metrics.set("epoch", batch.epochs_done);
    metrics.set("num_tokens", static_cast<double>(tokens_seen_));
    recorder_.step_done(step, fmt::format("loss {:.4f} | grad {:.2f} | lr {:.1e}", outcome.reduced.loss,
                                          outcome.reduced.gradient_norm, rate));
  }

  [[noreturn]] void diverged(const SampleBatch& batch, std::int64_t step,
                             const StepUpdater::Reduced& reduced) {
    nlohmann::ordered_json own = nlohmann::ordered_json::array(), samples = own;
    for (const Sample& sample : batch.samples)
      own.push_back(rows_.rows[static_cast<std::size_t>(sample.row)].id);
    for (const std::string& text : gather_texts(own.dump(), world_))
      for (const auto& id : nlohmann::ordered_json::parse(text)) samples.push_back(id);
    run_.append("divergence.json", {{"step", step},
                                    {"loss", fmt::format("{}", reduced.loss)},
                                    {"grad_norm", fmt::format("{}", reduced.gradient_norm)},
                                    {"file", rows_.path},
                                    {"sample_ids", samples}});
    fail(ErrorCode::kDivergence,
         "step {}: loss {}, gradient norm {}: not finite, nothing was updated; the rows are in {}; lower "
         "optimizer.learning_rate or look at them",
         step, reduced.loss, reduced.gradient_norm, (run_.path() / "divergence.json").string());
  }

  const SftConfig& config_;
  const TrainEnvironment& environment_;
  const RunStart& start_;
  Communicator& world_;
  Dataset rows_, evaluation_rows_;
  Model model_;
  PromptSource source_;
  RunFolder run_;
  std::shared_ptr<spdlog::logger> log_;
  std::int64_t rows_per_step_, total_steps_;
  RunRecorder recorder_;
  ModelKeeper keeper_;
  SftStep step_;
  CheckpointSession checkpoints_;
  std::int64_t tokens_seen_ = 0;
};

}  // namespace

void train_sft(const SftConfig& config, const TrainEnvironment& environment) {
  run_job_on_ranks<SftTrainer>(config, environment);
}

}  // namespace ferro
