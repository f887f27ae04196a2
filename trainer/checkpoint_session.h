#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <spdlog/logger.h>
#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/config_dump.h"
#include "core/config_values.h"
#include "data/dataset_reader.h"
#include "model/lora_config.h"
#include "model/model_folder.h"
#include "trainer/checkpoint/run_start.h"
#include "trainer/checkpoint/saving_config.h"
#include "trainer/run_folder.h"
#include "trainer/step_updater.h"

namespace ferro {

/// What a job is, for those who would go on with it.
struct JobFacts {
  std::string job;                              ///< "sft", "grpo".
  std::map<std::string, std::string> settings;  ///< config_values.
  std::filesystem::path model_folder;           ///< It starts from; the reference.
  bool needs_base = false;  ///< Beside the checkpoint's own weights: adapter or reference.
  const Dataset* rows = nullptr;
  const Dataset* evaluation_rows = nullptr;
  SavingConfig saving;
};

/// Writes a job's checkpoints and reads the one it goes on from. Of several ranks, rank 0 writes, with a
/// sharded optimizer each its own moments; every checkpoint is of a step that all have done, and is committed
/// by rank 0 when all have written. All read. One thread per rank.
class CheckpointSession {
 public:
  /// Takes this start's incarnation number. All references must outlive it. Constructor, resume() and write()
  /// are collectives.
  CheckpointSession(JobFacts facts, const RunStart& start, RunFolder& run,
                    std::shared_ptr<spdlog::logger> log, const Clock& clock, Communicator& world);

  /// Whether the run in the folder has done its `total_steps` already. Error{kConfig}: it ended after another
  /// number, and there is no checkpoint to go on from.
  bool finished(std::int64_t total_steps) const;
  /// The state of the loop that write() was given, null for a run that begins; moments go into `updater`,
  /// files of the run folder are cut back, later checkpoints put aside. Error{kConfig}: settings differ that
  /// may not. Error{kData}: data, tokenizer or base model are not those of the checkpoint; a broken file.
  nlohmann::json resume(StepUpdater& updater);
  /// Whether the evaluation rows are those of the checkpoint.
  bool same_evaluation_rows() const { return same_evaluation_rows_; }
  std::int64_t incarnation() const { return incarnation_; }

  /// Whether a checkpoint is to be written after `step`, the last time it can be before `next`.
  bool due(std::int64_t step, std::int64_t total_steps) const;
  /// Writes the checkpoint of `step` and removes the oldest; nothing where it is there already.
  void write(std::int64_t step, const Model& model, StepUpdater& updater, const nlohmann::json& loop);

 private:
  nlohmann::json state(std::int64_t step, std::int64_t policy_version, const nlohmann::json& loop);
  std::vector<nlohmann::json> moments_of_ranks(const std::filesystem::path& staged,
                                               StepUpdater& updater) const;
  void commit(class CheckpointBuilder& checkpoint, std::int64_t step,
              const std::map<std::string, std::uint64_t>& files, StepUpdater& updater,
              const nlohmann::json& loop);
  void write_weights(class CheckpointBuilder& checkpoint, const Model& model) const;
  void check(const nlohmann::json& state) const;
  void check_settings(const nlohmann::json& state) const;
  const std::string& base_sha256();

  JobFacts facts_;
  RunStart start_;
  RunFolder& run_;
  std::shared_ptr<spdlog::logger> log_;
  const Clock& clock_;
  Communicator& world_;
  std::int64_t incarnation_, written_;
  bool same_evaluation_rows_ = true;
  std::string base_sha256_;
};

/// find_run_start, and whether the folder may be begun in, as rank 0 sees it: the same on all. Error{kConfig}
/// on all: the ranks' `settings` (config_values) differ. A collective.
RunStart agree_on_start(const std::filesystem::path& output_dir, const SavingConfig& saving, bool overwrite,
                        std::map<std::string, std::string> settings, Communicator& world);

/// Error{kConfig} on all ranks when their rows or starting weights differ. A collective.
void check_same_start(const Dataset& rows, const Model& model, Communicator& world);

/// Error{kInternal} on all ranks when their weights differ after `step`. A collective.
void check_same_weights(std::int64_t step, const Model& model, Communicator& world);

/// Error{kCheckpointed}, saying how to go on.
[[noreturn]] void stopped_at_checkpoint(std::int64_t step, std::int64_t total_steps,
                                        const std::filesystem::path& run_folder);

/// Where a resumed job's model is read from: the checkpoint's weights, or the base and the checkpoint's
/// adapter.
std::filesystem::path starting_model(const RunStart& start, const std::filesystem::path& model_folder,
                                     const LoraConfig& lora);
LoraConfig starting_adapter(const RunStart& start, LoraConfig lora);

/// The settings as the run folder keeps them: reading them begins the same run.
template <class Config>
std::string settings_to_keep(Config config) {
  config.saving.resume_from_checkpoint.clear();
  return dump_yaml(config);
}

}  // namespace ferro
