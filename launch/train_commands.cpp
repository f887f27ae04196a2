#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "core/clock.h"
#include "core/config.h"
#include "launch/cli.h"
#include "launch/plugins.h"
#include "launch/stop_signals.h"

namespace ferro {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool resume = false;
};

template <class Config>
int train(const TrainOptions& options, void (*RuntimeTable::*job)(const Config&, const TrainEnvironment&)) {
  std::vector<std::string> overrides = options.overrides;
  if (options.resume) overrides.emplace_back("resume_from_checkpoint=true");
  const auto config = load_config<Config>(options.config, overrides);
  const StopSignals signals;
  SystemClock clock;
  const auto make_remote_scorer = [&](const RewardClientConfig& service,
                                      const std::vector<std::string>& functions) {
    return services().make_remote_scorer(service, functions, signals.token(), clock);
  };
  (runtime().*job)(config, {.make_loader = image_loader_factory(),
                            .make_remote_scorer = make_remote_scorer,
                            .stop = signals.token(),
                            .clock = &clock});
  return 0;
}

template <class Config>
void add_job(CLI::App& parent, Action& action, const char* name, const char* description,
             void (*RuntimeTable::*job)(const Config&, const TrainEnvironment&)) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = parent.add_subcommand(name, description);
  command->add_option("-c,--config", options->config, "YAML file; `ferro config docs` lists its keys.")
      ->required();
  command
      ->add_option("--set", options->overrides,
                   "Set one key over the file: --set optimizer.learning_rate=1e-4. Repeatable.")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command->add_flag("--resume", options->resume,
                    "Go on from the newest whole checkpoint in output_dir; begin where there is none.");
  command->callback(
      [&action, options, job] { action = [options, job] { return train<Config>(*options, job); }; });
}

}  // namespace

void add_train_commands(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("train", "Train a model: one YAML file in, one run folder out.");
  group->require_subcommand(1);
  add_job<SftConfig>(*group, action, "sft", "Supervised fine-tuning: learn given answers (the cold start).",
                     &RuntimeTable::train_sft);
  add_job<GrpoConfig>(*group, action, "grpo",
                      "GRPO: sample answers, let a program judge them, learn from the difference.",
                      &RuntimeTable::train_grpo);
}

}  // namespace ferro
