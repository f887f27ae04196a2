#include <stop_token>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "tests/core/expect_error.h"
#include "tests/trainer/tiny_job.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::code_of;
using testing::lines_of;
using testing::TinyJob;

}  // namespace

TEST_CASE("the same seed gives byte-identical weights and metrics in SFT, and the model learns") {
  const TinyJob job;
  train_sft(job.sft("a"), job.environment);
  train_sft(job.sft("b"), job.environment);
  CHECK(job.read("a/metrics.jsonl") == job.read("b/metrics.jsonl"));
  CHECK(job.read("a/model/model.safetensors") == job.read("b/model/model.safetensors"));
  CHECK(job.read("a/predictions.jsonl") == job.read("b/predictions.jsonl"));

  const auto lines = lines_of(job.read("a/metrics.jsonl"));
  // 24 rows, 8 a step: 72 steps in 24 epochs, and the evaluation's line.
  REQUIRE(lines.size() == 73);
  CHECK(lines[71].at("epoch") == 24.0);
  CHECK(lines[71].at("loss").get<double>() < 0.5 * lines[0].at("loss").get<double>());
  CHECK(lines[72].at("eval/format").get<double>() > 0.9);
  CHECK(lines[72].contains("recall/happy"));

  const json provenance = json::parse(job.read("a/provenance.json"));
  CHECK(provenance.at("weights_sha256") == sha256_of(job.read("a/model/model.safetensors")));
  CHECK(provenance.at("process_ids").at("trainer") == static_cast<std::int64_t>(::getpid()));
  CHECK(provenance.at("data").at("train").at("rows") == 24);
  CHECK(provenance.at("seed") == 3);
}

TEST_CASE("rows that cannot be used are named and counted, and the rest is trained on") {
  const TinyJob job;
  train_sft(job.sft("a"), job.environment);
  const auto aside = lines_of(job.read("a/set_aside.jsonl"));
  REQUIRE(aside.size() == 2);
  CHECK(aside[0].at("reason") == "image_missing");  // absent.png, seen when the file is read
  CHECK(aside[0].at("row") == 24);
  CHECK(aside[1].at("reason") == "image_unreadable");  // broken_7.png, seen when it is loaded
  CHECK(aside[1].at("row") == 7);
  const json last = lines_of(job.read("a/metrics.jsonl")).at(17);
  CHECK(last.at("data/set_aside/image_missing") == 1);
  CHECK(last.at("data/set_aside/image_unreadable") == 1);
}

TEST_CASE("the same seed gives byte-identical weights and metrics in GRPO, another seed does not") {
  const TinyJob job;
  train_sft(job.sft("cold"), job.environment);
  auto config = job.grpo("a", "cold/model");
  config.num_iterations = 2;
  config.save_rollouts_steps = 1;
  config.data.eval_file = config.data.train_file;
  config.eval_steps = 2;
  train_grpo(config, job.environment);
  config.output_dir = (job.root() / "b").string();
  train_grpo(config, job.environment);
  CHECK(job.read("a/metrics.jsonl") == job.read("b/metrics.jsonl"));
  CHECK(job.read("a/model/model.safetensors") == job.read("b/model/model.safetensors"));
  CHECK(job.read("a/rollouts/step-000001.jsonl") == job.read("b/rollouts/step-000001.jsonl"));
  CHECK(job.read("a/model/model.safetensors") != job.read("cold/model/model.safetensors"));
  config.output_dir = (job.root() / "c").string();
  config.seed = 5;
  train_grpo(config, job.environment);
  CHECK(job.read("a/model/model.safetensors") != job.read("c/model/model.safetensors"));

  // The model is evaluated before the first step too.
  const json start = lines_of(job.read("a/metrics.jsonl")).at(0);
  CHECK(start.at("step") == 0);
  CHECK(start.contains("eval/accuracy"));
  const json first = lines_of(job.read("a/metrics.jsonl")).at(1);
  CHECK(first.at("step") == 1);
  CHECK(first.at("reward_std").get<double>() > 0);
  for (const char* name : {"reward",
                           "reward_std",
                           "rewards/accuracy/mean",
                           "rewards/format/std",
                           "frac_reward_zero_std",
                           "kl",
                           "entropy",
                           "grad_norm",
                           "learning_rate",
                           "epoch",
                           "num_tokens",
                           "loss",
                           "clip_ratio/low_mean",
                           "completions/mean_length",
                           "completions/clipped_ratio",
                           "completions/mean_terminated_length",
                           "rewards/accuracy/unjudged",
                           "reward/by_label/happy",
                           "length/by_label/sad",
                           "grad_norm/vision",
                           "grad_norm/merger",
                           "grad_norm/embedding",
                           "grad_norm/decoder",
                           "grad_norm/head",
                           "updates/skipped_non_finite",
                           "sampling/importance_sampling_ratio/mean"})
    CHECK(first.contains(name));
  CHECK(std::filesystem::exists(job.root() / "a/best/model.safetensors"));
  // The sampler's log-probs are the trainer's.
  CHECK(first.at("sampling/sampling_logp_difference/max").get<double>() == 0.0);
}

TEST_CASE("a run's answers end where its model says, and the trained model says the same") {
  const TinyJob job;
  json settings = json::parse(job.read("base/generation_config.json"));
  // Every id but the first ends an answer: one token is long, rarely two; without these ids up to 32 are.
  std::vector<std::int32_t> ends;
  for (std::int32_t id = 1; id < 320; ++id) ends.push_back(id);
  settings["eos_token_id"] = ends;
  settings["repetition_penalty"] = 1.05;
  write_file_atomically(job.root() / "base" / "generation_config.json", settings.dump());
  auto sft = job.sft("cold");
  sft.num_train_epochs = 1;
  sft.data.eval_file.clear();
  train_sft(sft, job.environment);
  auto grpo = job.grpo("a", "cold/model");
  grpo.max_steps = 1;
  grpo.temperature = 50;  // Close to any id, none likelier than the others.
  train_grpo(grpo, job.environment);
  CHECK(job.read("cold/model/generation_config.json") == settings.dump());
  CHECK(job.read("a/model/generation_config.json") == settings.dump());
  CHECK(lines_of(job.read("a/metrics.jsonl")).at(0).at("completions/mean_length").get<double>() < 2);
}

TEST_CASE("a stop finishes the step, saves the model and says so with its exit code") {
  TinyJob job;
  std::stop_source source;
  source.request_stop();
  job.environment.stop = source.get_token();
  CHECK(code_of([&] { train_sft(job.sft("a"), job.environment); }) == ErrorCode::kCheckpointed);
  CHECK(lines_of(job.read("a/metrics.jsonl")).size() == 1);
  CHECK(std::filesystem::exists(job.root() / "a/model/model.safetensors"));
  CHECK(code_of([&] { train_grpo(job.grpo("b", "a/model"), job.environment); }) == ErrorCode::kCheckpointed);
  CHECK(std::filesystem::exists(job.root() / "b/model/config.json"));
}

TEST_CASE("a loss that is not finite stops the run before the update and names the rows") {
  const TinyJob job;
  auto config = job.sft("a");
  config.optimizer.learning_rate = 1e30;
  config.optimizer.lr_scheduler_type = "constant";
  CHECK(code_of([&] { train_sft(config, job.environment); }) == ErrorCode::kDivergence);
  const json record = json::parse(job.read("a/divergence.json"));
  CHECK(record.at("step") == 2);
  CHECK(record.at("sample_ids").size() >= 7);
}

TEST_CASE("a run folder is not overwritten by accident") {
  const TinyJob job;
  auto config = job.sft("a");
  config.max_steps = 1;
  train_sft(config, job.environment);
  CHECK(code_of([&] { train_sft(config, job.environment); }) == ErrorCode::kConfig);
  config.overwrite_output_dir = true;
  train_sft(config, job.environment);
  std::ofstream(job.root() / "a/thesis.txt") << "years of work";
  CHECK(code_of([&] { train_sft(config, job.environment); }) == ErrorCode::kConfig);
  config.output_dir = job.root().string();
  CHECK(code_of([&] { train_sft(config, job.environment); }) == ErrorCode::kConfig);
}

TEST_CASE("rows of the wrong kind are refused") {
  const TinyJob job;
  auto sft = job.sft("a");
  sft.data.train_file = sft.data.eval_file;
  CHECK(code_of([&] { train_sft(sft, job.environment); }) == ErrorCode::kConfig);
  auto grpo = job.grpo("b", "base");
  grpo.data.train_file = job.sft("c").data.train_file;
  CHECK(code_of([&] { train_grpo(grpo, job.environment); }) == ErrorCode::kConfig);
}

}  // namespace ferro
