#include <stop_token>

#include <catch2/catch.hpp>

#include "tests/trainer/resume_job.h"

namespace ferro {
namespace {

using testing::code_of;
using testing::copy_killed_run;
using testing::differences;
using testing::TinyJob;

const std::set<std::string> kNone;

SftConfig short_sft(const TinyJob& job, const std::string& name) {
  SftConfig config = job.sft(name);
  config.max_steps = 7;
  config.logging_steps = 3;
  config.eval_steps = 2;
  config.metric_for_best_model = "accuracy";
  config.saving.save_steps = 1;
  config.saving.save_total_limit = 0;
  return config;
}

GrpoConfig short_grpo(const TinyJob& job, const std::string& name) {
  GrpoConfig config = job.grpo(name, "base");
  config.max_steps = 4;
  config.max_completion_length = 12;
  config.logging_steps = 3;
  config.save_rollouts_steps = 1;
  config.saving.save_steps = 1;
  config.saving.save_total_limit = 0;
  return config;
}

template <class Config>
void check_resumes_exactly(const TinyJob& job, Config config,
                           void (*train)(const Config&, const TrainEnvironment&),
                           std::initializer_list<std::int64_t> steps) {
  train(config, job.environment);
  const std::filesystem::path whole = config.output_dir;
  config.saving.resume_from_checkpoint = "true";
  for (const std::int64_t step : steps) {
    const std::filesystem::path copy = whole.string() + "_after_" + std::to_string(step);
    copy_killed_run(whole, copy, step);
    config.output_dir = copy.string();
    train(config, job.environment);
    INFO("resumed after step " << step);
    CHECK(differences(whole, copy) == kNone);
  }
}

}  // namespace

TEST_CASE("a killed SFT run resumes to the bytes of an undisturbed one from any checkpoint") {
  const TinyJob job;
  check_resumes_exactly(job, short_sft(job, "a"), &train_sft, {1, 2, 4, 6, 7});
}

TEST_CASE("SFT with an adapter, its dropout and 8-bit moments resumes exactly") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a");
  config.lora.r = 4;
  config.lora.alpha = 6;
  config.lora.dropout = 0.2;
  config.optimizer.state_dtype = "int8";
  config.metric_for_best_model = "eval_loss";
  config.data.eval_file = config.data.train_file;
  check_resumes_exactly(job, config, &train_sft, {2, 5});
}

TEST_CASE("SFT with 8-bit moments and frozen parts resumes exactly") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a");
  config.train.vision = false;
  config.optimizer.state_dtype = "int8";
  config.eval_steps = 0;
  check_resumes_exactly(job, config, &train_sft, {3});
}

TEST_CASE("GRPO with several passes and steps per generation resumes exactly at the borders of generations") {
  const TinyJob job;
  GrpoConfig config = short_grpo(job, "a");
  config.num_iterations = 2;
  config.steps_per_generation = 2;
  config.max_steps = 12;
  config.data.eval_file = config.data.train_file;
  config.data.max_eval_rows = 6;
  config.eval_steps = 3;
  check_resumes_exactly(job, config, &train_grpo, {4, 8, 12});
  // Only borders of generations, every fourth step, have checkpoints.
  CHECK_FALSE(std::filesystem::exists(job.root() / "a/checkpoints/step-000003"));
  CHECK(std::filesystem::exists(job.root() / "a/checkpoints/step-000012"));
}

TEST_CASE("GRPO with an adapter resumes exactly") {
  const TinyJob job;
  GrpoConfig config = short_grpo(job, "a");
  config.lora.r = 4;
  config.lora.dropout = 0.1;
  check_resumes_exactly(job, config, &train_grpo, {1, 3});
}

TEST_CASE("GRPO with dynamic sampling, pass rates and 8-bit moments resumes exactly") {
  const TinyJob job;
  GrpoConfig config = short_grpo(job, "a");
  config.reward_functions = {"format", "accuracy"};
  config.curriculum.dynamic_sampling = true;
  config.curriculum.max_resample_rounds = 2;
  config.curriculum.max_pass_rate = 0.9;
  config.curriculum.save_pass_rates = true;
  config.optimizer.state_dtype = "int8";
  config.guard.on_divergence = "lower_rate";
  config.guard.max_entropy = 0.5;
  config.max_steps = 6;
  check_resumes_exactly(job, config, &train_grpo, {1, 2, 4});
}

TEST_CASE("a run that is stopped after every step ends as one that is not") {
  TinyJob job;
  SftConfig sft = short_sft(job, "a");
  sft.saving.save_steps = 0;
  sft.saving.save_total_limit = 2;
  train_sft(sft, job.environment);
  GrpoConfig grpo = short_grpo(job, "b");
  grpo.saving.save_steps = 0;
  grpo.saving.save_total_limit = 2;
  train_grpo(grpo, job.environment);

  std::stop_source source;
  source.request_stop();
  job.environment.stop = source.get_token();
  const auto last = [](const auto& config, auto train, const TrainEnvironment& environment) {
    for (std::int64_t step = 1; step < config.max_steps; ++step)
      CHECK(code_of([&] { train(config, environment); }) == ErrorCode::kCheckpointed);
    train(config, environment);
  };
  sft.output_dir = (job.root() / "c").string();
  grpo.output_dir = (job.root() / "d").string();
  sft.saving.resume_from_checkpoint = grpo.saving.resume_from_checkpoint = "true";
  last(sft, &train_sft, job.environment);
  last(grpo, &train_grpo, job.environment);
  for (const char* run : {"c", "d"}) {
    CHECK(std::distance(std::filesystem::directory_iterator(job.root() / run / "checkpoints"), {}) == 2);
    std::filesystem::remove_all(job.root() / run / "checkpoints");
  }
  CHECK(differences(job.root() / "a", job.root() / "c") == kNone);
  CHECK(differences(job.root() / "b", job.root() / "d") == kNone);
  // Seven starts.
  CHECK(nlohmann::json::parse(job.read("c/provenance.json")).at("incarnation") == 7);
  // Once more: it is complete.
  train_sft(sft, job.environment);
  CHECK(differences(job.root() / "a", job.root() / "c") == kNone);
}

TEST_CASE("a resumed run refuses other settings, data and files, with old and new value") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a");
  config.eval_steps = 0;
  config.max_steps = 3;
  train_sft(config, job.environment);
  config.saving.resume_from_checkpoint = "true";
  config.max_steps = 4;
  std::string what;
  SftConfig other = config;
  other.optimizer.learning_rate = 0.5;
  CHECK(code_of([&] { train_sft(other, job.environment); }, &what) == ErrorCode::kConfig);
  CHECK_THAT(what, Catch::Contains("optimizer.learning_rate: 0.003 -> 0.5"));

  other = config;
  other.data.train_file = (job.root() / "other.json").string();
  write_file_atomically(other.data.train_file, job.read("sft.json") + " ");
  CHECK(code_of([&] { train_sft(other, job.environment); }, &what) == ErrorCode::kData);
  CHECK_THAT(what, Catch::Contains("other.json (sha256)"));

  other = config;
  other.saving.resume_from_checkpoint = (job.root() / "base").string();
  CHECK(code_of([&] { train_sft(other, job.environment); }) == ErrorCode::kConfig);

  std::filesystem::resize_file(job.root() / "a/metrics.jsonl", 3);
  CHECK(code_of([&] { train_sft(config, job.environment); }, &what) == ErrorCode::kData);
  CHECK_THAT(what, Catch::Contains("metrics.jsonl has 3 bytes"));
}

TEST_CASE("more steps than before go on from the last checkpoint, an earlier one puts later ones aside") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a");
  config.optimizer.lr_scheduler_type = "constant";
  config.max_steps = 3;
  train_sft(config, job.environment);
  SftConfig whole = config;
  whole.output_dir = (job.root() / "b").string();
  whole.max_steps = 5;
  whole.eval_steps = config.eval_steps = 0;
  train_sft(whole, job.environment);
  config.max_steps = 5;
  config.saving.resume_from_checkpoint = (job.root() / "a/checkpoints/step-000002").string();
  train_sft(config, job.environment);
  CHECK(std::filesystem::exists(job.root() / "a/checkpoints/step-000003.aside/manifest.json"));
  CHECK(job.read("a/model/model.safetensors") == job.read("b/model/model.safetensors"));
}

TEST_CASE("resuming where no checkpoint is begins, and a model without one is not overwritten") {
  TinyJob job;
  SftConfig config = short_sft(job, "a");
  config.max_steps = 1;
  config.eval_steps = config.saving.save_steps = 0;
  config.saving.resume_from_checkpoint = "true";
  train_sft(config, job.environment);
  CHECK_THAT(job.read("a/log.txt"), Catch::Contains("training begins at its first step"));
  const std::string weights = job.read("a/model/model.safetensors");
  train_sft(config, job.environment);  // Complete.
  CHECK(job.read("a/model/model.safetensors") == weights);
  config.max_steps = 2;
  CHECK(code_of([&] { train_sft(config, job.environment); }) == ErrorCode::kConfig);
  CHECK(job.read("a/model/model.safetensors") == weights);
}

}  // namespace ferro
