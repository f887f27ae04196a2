#include "trainer/checkpoint_session.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "core/fail_point.h"
#include "model/kernels/kernels.h"
#include "model/lora.h"
#include "trainer/checkpoint/checkpoint_folder.h"
#include "trainer/checkpoint/resume_rules.h"
#include "trainer/optimizer_files.h"
#include "trainer/policy_setup.h"
#include "trainer/rank_world.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// What the bits of a step depend on beside settings, data and weights.
json numerics(const Communicator& world) {
  return {{"instruction_set", kernels::best().name},
          {"dtype", "float32"},
          {"ranks", world.world_size()},
          {"threads", at::get_num_threads()},
          {"version", FERRO_VERSION}};
}

/// Of the weights of a model folder, whatever their files' number.
std::string weights_sha256(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const fs::path& file : files) lines += sha256_of_file(file) + "  " + file.filename().string() + "\n";
  return sha256_of(lines);
}

std::string tokenizer_sha256(const fs::path& model_folder) {
  return sha256_of_file(model_folder / "tokenizer.json");
}

json data_of(const JobFacts& facts) {
  json data{{"train", data_facts(*facts.rows)}};
  if (!facts.evaluation_rows->path.empty()) data["eval"] = data_facts(*facts.evaluation_rows);
  return data;
}

/// "" for a run without evaluation rows.
std::string evaluation_sha256(const json& data) {
  return data.contains("eval") ? data.at("eval").at("sha256").get<std::string>() : "";
}

/// A sum over weights (and adapter) as whole numbers: other bits, another sum, as good as always.
std::string sum_of_words(const Model& model) {
  const auto words = [](const ParameterArena& arena) {
    return arena.weights.view(at::kInt).sum().item<std::int64_t>();
  };
  const std::int64_t adapter = model.adapter == nullptr ? 0 : words(model.adapter->arena);
  return fmt::format("{}/{}", words(model.arena), adapter);
}

void require_same(const std::string& what, const json& before, const json& now) {
  if (before != now)
    fail(ErrorCode::kData, "{} is not what the checkpoint was written with: {} then, {} now", what,
         before.dump(), now.dump());
}

}  // namespace

CheckpointSession::CheckpointSession(JobFacts facts, const RunStart& start, RunFolder& run,
                                     std::shared_ptr<spdlog::logger> log, const Clock& clock,
                                     Communicator& world)
    : facts_(std::move(facts)),
      start_(start),
      run_(run),
      log_(std::move(log)),
      clock_(clock),
      world_(world),
      incarnation_(world.all_reduce_max(run.writes() ? take_incarnation(run.path()) : 0)),
      written_(start.step) {
  for (const std::string& note : start_.notes) log_->warn("{}", note);
}

bool CheckpointSession::finished(std::int64_t total_steps) const {
  if (start_.finished_steps == total_steps) {
    log_->info("training is complete: {} steps are done, nothing is left to do", total_steps);
    return true;
  }
  if (start_.finished_steps >= 0 && !start_.resumed())
    fail(ErrorCode::kConfig,
         "the run in {} ended after {} steps and has no checkpoint to go on from to {}; train its model in "
         "another folder",
         run_.path().string(), start_.finished_steps, total_steps);
  return false;
}

json CheckpointSession::resume(StepUpdater& updater) {
  if (!start_.resumed()) return nullptr;
  const fs::path file = start_.checkpoint / kStateFile;
  try {
    const json state = json::parse(read_file(file));
    check_settings(state);
    check(state);
    read_optimizer(start_.checkpoint, updater.optimizer(), updater.trained());
    same_evaluation_rows_ = evaluation_sha256(state.at("data")) == evaluation_sha256(data_of(facts_));
    world_.barrier();  // All have read what is tidied now.
    run_.cut_appended_files(state.at("files").get<std::map<std::string, std::uint64_t>>());
    if (run_.writes()) {
      put_later_checkpoints_aside(run_.path(), start_);
      remove_old_checkpoints(run_.path(), 0);
    }
    run_.forget_provenance({"finished_steps"});
    run_.write_provenance({{"resumed_from", start_.step}});
    log_->info("goes on after step {} from {}", start_.step, start_.checkpoint.string());
    return state.at("loop");
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: {}", file.string(), error.what());
  }
}

void CheckpointSession::check_settings(const json& state) const {
  if (state.at("job") != facts_.job)
    fail(ErrorCode::kConfig, "{} is a checkpoint of `{}`, this is `{}`", start_.checkpoint.string(),
         state.at("job").get<std::string>(), facts_.job);
  const std::vector<std::string> refused =
      refused_changes(state.at("config").get<std::map<std::string, std::string>>(), facts_.settings);
  if (!refused.empty())
    fail(ErrorCode::kConfig,
         "a resumed run cannot change {}; put it back, or begin another run (docs/checkpoints.md says what "
         "may "
         "change)",
         fmt::join(refused, ", "));
}

void CheckpointSession::check(const json& state) const {
  const json before = state.at("data").at("train"), now = data_facts(*facts_.rows);
  for (const char* key : {"sha256", "rows"})
    require_same(fmt::format("{} ({})", facts_.rows->path, key), before.at(key), now.at(key));
  require_same((facts_.model_folder / "tokenizer.json").string(), state.at("tokenizer_sha256"),
               tokenizer_sha256(facts_.model_folder));
  if (facts_.needs_base)
    require_same("model_name_or_path " + facts_.model_folder.string(), state.at("base").at("sha256"),
                 weights_sha256(facts_.model_folder));
  if (state.at("numerics") != numerics(world_))
    log_->warn(
        "the run goes on elsewhere: its numbers need not be those of an undisturbed run, bit for bit: {} "
        "then, "
        "{} now",
        state.at("numerics").dump(), numerics(world_).dump());
}

bool CheckpointSession::due(std::int64_t step, std::int64_t total_steps) const {
  const std::int64_t every = facts_.saving.save_steps;
  return every > 0 && (step == total_steps || step / every > written_ / every);
}

const std::string& CheckpointSession::base_sha256() {
  if (facts_.needs_base && base_sha256_.empty()) base_sha256_ = weights_sha256(facts_.model_folder);
  return base_sha256_;
}

json CheckpointSession::state(std::int64_t step, std::int64_t policy_version, const json& loop) {
  json state{{"format_version", 1},
             {"job", facts_.job},
             {"step", step},
             {"policy_version", policy_version},
             {"incarnation", incarnation_},
             {"config", facts_.settings},
             {"data", data_of(facts_)},
             {"tokenizer_sha256", tokenizer_sha256(facts_.model_folder)},
             {"numerics", numerics(world_)},
             {"loop", loop}};
  if (facts_.needs_base) state["base"] = {{"path", facts_.model_folder.string()}, {"sha256", base_sha256()}};
  return state;
}

void CheckpointSession::write_weights(CheckpointBuilder& checkpoint, const Model& model) const {
  if (model.adapter != nullptr) {
    checkpoint.note("adapter/adapter_model.safetensors",
                    save_adapter(model, checkpoint.path() / "adapter", facts_.model_folder.string()));
    return;
  }
  const std::string sha256 = save_model(model, checkpoint.path() / "model", facts_.model_folder);
  // Of shards it is another file's sum.
  if (fs::exists(checkpoint.path() / "model/model.safetensors"))
    checkpoint.note("model/model.safetensors", sha256);
}

void CheckpointSession::write(std::int64_t step, const Model& model, StepUpdater& updater, const json& loop) {
  if (step == written_) return;
  const Stopwatch watch(clock_);
  check_same_weights(step, model, world_);
  std::optional<CheckpointBuilder> checkpoint;
  std::map<std::string, std::uint64_t> files;
  const std::string staged = text_of_first(world_, [&] {
    files = run_.appended_files();
    checkpoint.emplace(run_.path(), step);
    fail_point("checkpoint.begun");
    write_weights(*checkpoint, model);
    fail_point("checkpoint.weights");
    return checkpoint->path().string();
  });
  const std::vector<json> moments = moments_of_ranks(staged, updater);
  if (checkpoint) {
    write_optimizer_index(*checkpoint, updater.optimizer(), updater.trained(), moments);
    fail_point("checkpoint.optimizer");
    commit(*checkpoint, step, files, updater, loop);
    log_->info("checkpoint {} written in {:.2f} s",
               (checkpoints_folder(run_.path()) / checkpoint_name(step)).string(), watch.seconds());
  }
  world_.barrier();
  written_ = step;
}

// All ranks have written theirs when this returns.
std::vector<json> CheckpointSession::moments_of_ranks(const fs::path& staged, StepUpdater& updater) const {
  json own;
  if (updater.shards_optimizer() || run_.writes()) {
    own = write_moments(staged, world_.rank(), updater.optimizer());
    fail_point("checkpoint.moments");
  }
  std::vector<json> all;
  for (const std::string& text : gather_texts(own.dump(), world_)) all.push_back(json::parse(text));
  return all;
}

void CheckpointSession::commit(CheckpointBuilder& checkpoint, std::int64_t step,
                               const std::map<std::string, std::uint64_t>& files, StepUpdater& updater,
                               const json& loop) {
  json facts = state(step, updater.steps_done(), loop);
  facts["files"] = files;
  const std::string text = facts.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  write_file_atomically(checkpoint.path() / kStateFile, text);
  checkpoint.note(kStateFile, sha256_of(text));
  checkpoint.commit(clock_.utc_timestamp(), FERRO_VERSION);
  remove_old_checkpoints(run_.path(), facts_.saving.save_total_limit);
  fail_point("checkpoint.done");
}

RunStart agree_on_start(const fs::path& output_dir, const SavingConfig& saving, bool overwrite,
                        std::map<std::string, std::string> settings, Communicator& world) {
  settings["ferro's version"] = FERRO_VERSION;
  check_same_on_ranks(settings, world);
  const std::string text = text_of_first(world, [&] {
    const RunStart start = find_run_start(output_dir, saving.resume_from_checkpoint, overwrite);
    if (!start.keeps_folder()) RunFolder::check_free(output_dir, overwrite || start.replace);
    return json{{"checkpoint", start.checkpoint.string()},
                {"step", start.step},
                {"replace", start.replace},
                {"finished_steps", start.finished_steps},
                {"notes", start.notes}}
        .dump(-1, ' ', false, json::error_handler_t::replace);
  });
  const json start = json::parse(text);
  return {.checkpoint = start.at("checkpoint").get<std::string>(),
          .step = start.at("step").get<std::int64_t>(),
          .replace = start.at("replace").get<bool>(),
          .finished_steps = start.at("finished_steps").get<std::int64_t>(),
          .notes = start.at("notes").get<std::vector<std::string>>()};
}

void check_same_start(const Dataset& rows, const Model& model, Communicator& world) {
  if (world.world_size() == 1) return;
  check_same_on_ranks({{"the content of " + rows.path + " (sha256)", rows.sha256},
                       {"the starting weights (sum of their words)", sum_of_words(model)}},
                      world);
}

void check_same_weights(std::int64_t step, const Model& model, Communicator& world) {
  if (world.world_size() == 1) return;
  const std::vector<std::string> sums = gather_texts(sum_of_words(model), world);
  for (std::size_t rank = 1; rank < sums.size(); ++rank)
    FERRO_CHECK(sums[rank] == sums[0], "rank {}'s weights are not rank 0's after step {}", rank, step);
}

void stopped_at_checkpoint(std::int64_t step, std::int64_t total_steps, const fs::path& run_folder) {
  fail(ErrorCode::kCheckpointed,
       "told to stop after step {} of {}; checkpoint and model are in {}; the same command with --resume "
       "goes on",
       step, total_steps, run_folder.string());
}

fs::path starting_model(const RunStart& start, const fs::path& model_folder, const LoraConfig& lora) {
  return start.resumed() && !lora.enabled() ? start.checkpoint / "model" : model_folder;
}

LoraConfig starting_adapter(const RunStart& start, LoraConfig lora) {
  if (start.resumed() && lora.enabled()) lora.adapter_name_or_path = (start.checkpoint / "adapter").string();
  return lora;
}

}  // namespace ferro
