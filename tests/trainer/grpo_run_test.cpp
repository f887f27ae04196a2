#include <algorithm>
#include <stop_token>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/config.h"
#include "tests/trainer/resume_job.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::code_of;
using testing::lines_of;
using testing::TinyJob;

// A model that writes answers of the right form, some of them right, and runs from it.
struct ColdStart {
  TinyJob job;
  ColdStart() { train_sft(job.sft("cold"), job.environment); }
  GrpoConfig grpo(const std::string& name) const { return job.grpo(name, "cold/model"); }
  std::vector<json> run(const GrpoConfig& config) const {
    train_grpo(config, job.environment);
    return lines_of(
        job.read(std::filesystem::path(config.output_dir).filename().string() + "/metrics.jsonl"));
  }
  std::string weights(const std::string& name) const { return job.read(name + "/model/model.safetensors"); }
};

// One for all tests: each run has a name of its own.
const ColdStart& cold_start() {
  static const ColdStart start;
  return start;
}

double sum_of(const std::vector<json>& lines, const std::string& name) {
  double sum = 0;
  for (const json& line : lines)
    if (line.contains(name)) sum += line.at(name).get<double>();
  return sum;
}

}  // namespace

TEST_CASE("a generation serves several steps, each on its part, pass by pass") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("parts");
  config.steps_per_generation = 2;
  config.num_iterations = 2;
  config.max_steps = 8;
  const auto lines = start.run(config);
  REQUIRE(lines.size() == 8);
  // Two generations of 6 prompts x 4 answers: four steps each, whose tokens are counted once.
  CHECK(lines[0].at("num_tokens") == lines[3].at("num_tokens"));
  CHECK(lines[3].at("num_tokens").get<double>() < lines[4].at("num_tokens").get<double>());
  CHECK(lines[0].at("epoch") == 0.25);  // 6 of 24 rows.
  CHECK(lines[4].at("epoch") == 0.5);
  // The first step is on-policy; the others are against the log-probs of their generation.
  CHECK(lines[0].at("clip_ratio/region_mean") == 0.0);
  CHECK(lines[0].at("sampling/sampling_logp_difference/max") == 0.0);
  CHECK(lines[1].at("sampling/sampling_logp_difference/max") == 0.0);
  config.output_dir = (start.job.root() / "parts_again").string();
  start.run(config);
  CHECK(start.weights("parts") == start.weights("parts_again"));
}

TEST_CASE("the token budget changes how a step is cut, and not what it does") {
  const ColdStart& start = cold_start();
  std::vector<std::vector<json>> runs;
  for (const std::int64_t budget : {60, 200, 100000}) {
    auto config = start.grpo("budget" + std::to_string(budget));
    config.max_steps = 1;
    config.max_tokens_per_micro_batch = budget;
    runs.push_back(start.run(config));
  }
  for (std::size_t i = 1; i < runs.size(); ++i) {
    const double norm = runs[0][0].at("grad_norm");
    CHECK(runs[i][0].at("grad_norm").get<double>() == Approx(norm).epsilon(1e-6));
    CHECK(runs[i][0].at("loss").get<double>() == Approx(runs[0][0].at("loss").get<double>()).margin(1e-6));
  }
}

TEST_CASE("every loss type and advantage estimator trains") {
  const ColdStart& start = cold_start();
  for (const char* type : {"bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo", "rloo"}) {
    INFO(type);
    auto config = start.grpo(type);
    config.max_steps = 2;
    config.loss.loss_type = type;
    config.loss.entropy_coef = 0.01;
    config.loss.top_entropy_quantile = 0.5;
    const auto lines = start.run(config);
    CHECK(lines[0].at("grad_norm").get<double>() > 0);
    CHECK(lines[0].contains("policy_loss"));
  }
  for (const char* estimator : {"rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline"}) {
    INFO(estimator);
    auto config = start.grpo(estimator + std::string("_advantage"));
    config.max_steps = 2;
    config.advantage_estimator = estimator;
    config.kl_in_reward = true;
    config.loss.loss_type = "rloo";
    const auto lines = start.run(config);
    CHECK(lines[0].at("grad_norm").get<double>() > 0);
    CHECK(lines[0].at("kl") == 0.0);  // Policy and reference are the same yet.
    CHECK(lines[1].at("kl").get<double>() != 0.0);
  }
}

TEST_CASE("dynamic sampling fills a step with groups that have signal") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("plain");
  config.max_steps = 6;
  config.loss.beta = 0;
  const auto plain = start.run(config);
  CHECK(sum_of(plain, "groups/without_signal") > 0);  // Else there is nothing to drop.

  config.output_dir = (start.job.root() / "chosen").string();
  config.curriculum.dynamic_sampling = true;
  config.curriculum.max_resample_rounds = 50;
  const auto chosen = start.run(config);
  REQUIRE(chosen.size() == 6);
  CHECK(sum_of(chosen, "groups/without_signal") == 0);
  const double dropped =
      sum_of(chosen, "dynamic_sampling/dropped_high") + sum_of(chosen, "dynamic_sampling/dropped_low");
  CHECK(dropped > 0);
  CHECK(sum_of(chosen, "dynamic_sampling/missing") == 0);
  CHECK(sum_of(chosen, "dynamic_sampling/rounds") > 0);
  CHECK(chosen[5].at("data/set_aside/no_signal") == dropped);
  CHECK(chosen[5].at("epoch").get<double>() > plain[5].at("epoch").get<double>());
  const auto named = lines_of(start.job.read("chosen/set_aside.jsonl"));
  CHECK(std::count_if(named.begin(), named.end(), [](const json& row) {
          return row.at("reason") == "no_signal";
        }) == static_cast<std::int64_t>(dropped));

  config.output_dir = (start.job.root() / "impatient").string();
  config.curriculum.max_resample_rounds = 0;
  CHECK(sum_of(start.run(config), "dynamic_sampling/missing") > 0);
}

TEST_CASE("pass rates of one run choose the prompts of the next") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("first");
  config.max_steps = 8;  // One epoch of 24 rows.
  config.curriculum.save_pass_rates = true;
  start.run(config);
  std::map<std::int64_t, double> rates;
  for (const json& line : lines_of(start.job.read("first/pass_rates.jsonl")))
    rates[line.at("row").get<std::int64_t>()] = line.at("pass_rate");
  CHECK(rates.size() == 23);

  config.output_dir = (start.job.root() / "second").string();
  config.curriculum.pass_rates_file = (start.job.root() / "first/pass_rates.jsonl").string();
  config.curriculum.max_pass_rate = 0.9;
  const auto lines = start.run(config);
  CHECK(sum_of(lines, "curriculum/too_easy") > 0);
  for (const json& line : lines_of(start.job.read("second/pass_rates.jsonl")))
    CHECK(rates.at(line.at("row").get<std::int64_t>()) <= 0.9);

  config.output_dir = (start.job.root() / "own").string();
  config.curriculum.pass_rates_file = "";
  config.max_steps = 12;
  const auto own = start.run(config);
  CHECK(own[0].at("curriculum/too_easy") == 0);
  CHECK(sum_of(own, "curriculum/too_easy") > 0);
}

TEST_CASE("pass rates from before a checkpoint choose the prompts of the run that goes on from it") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("rated");
  config.max_steps = 12;  // Rates of the first 8 steps, an epoch, choose the prompts of the last 4.
  config.curriculum.max_pass_rate = 0.9;
  config.curriculum.save_pass_rates = true;
  config.saving.save_steps = 8;
  const auto lines = start.run(config);
  REQUIRE(sum_of(lines, "curriculum/too_easy") > 0);

  const std::filesystem::path whole = config.output_dir, copy = start.job.root() / "rated_again";
  testing::copy_killed_run(whole, copy, 8);
  config.output_dir = copy.string();
  config.saving.resume_from_checkpoint = "true";
  start.run(config);
  CHECK(testing::differences(whole, copy) == std::set<std::string>{});
}

TEST_CASE("truncated answers are left out of the loss where they are to be") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("all_cut");
  config.max_steps = 2;
  config.max_completion_length = 2;  // No answer ends by then.
  config.mask_truncated_completions = true;
  config.reward_functions = {"accuracy"};
  const auto lines = start.run(config);
  CHECK(lines[0].at("completions/clipped_ratio") == 1.0);
  CHECK(lines[0].at("completions/masked") == 12);
  CHECK(lines[0].at("updates/without_signal") == 1);
  CHECK(lines[0].at("grad_norm") == 0.0);
  CHECK(lines[0].at("loss") == 0.0);
}

TEST_CASE(
    "a learning rate of 1e3 is refused, and one that ruins the model all the same stops or is counted") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("wild");
  const std::string file = (start.job.root() / "wild.yaml").string();
  write_file_atomically(file,
                        "model_name_or_path: m\ndata: {train_file: x}\noptimizer: {learning_rate: 1.0e3}\n");
  CHECK(code_of([&] { load_config<GrpoConfig>(file, {}); }) == ErrorCode::kConfig);

  config.optimizer.lr_scheduler_type = "constant";
  config.optimizer.learning_rate = 1e3;  // A policy that draws tokens evenly whatever it sees.
  const auto lines = start.run(config);
  // In how many of the steps after the first is a matter of last bits, for a right answer may be drawn; each
  // is counted.
  const auto without = std::count_if(lines.begin(), lines.end(), [](const json& line) {
    return line.contains("grad_norm") && line.at("grad_norm") == 0.0;
  });
  CHECK(without >= 1);
  CHECK(sum_of(lines, "updates/zero_gradient") == static_cast<double>(without));
  config.output_dir = (start.job.root() / "wilder").string();
  config.optimizer.learning_rate = 1e30;  // Logits that are not finite.
  CHECK(code_of([&] { train_grpo(config, start.job.environment); }) == ErrorCode::kDivergence);
}

TEST_CASE("a gradient that is not finite stops the run before the update, or is left out and counted") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("broken");
  config.max_steps = 30;
  config.loss.entropy_coef = 1e308;
  CHECK(code_of([&] { train_grpo(config, start.job.environment); }) == ErrorCode::kDivergence);
  const json record = json::parse(start.job.read("broken/divergence.json"));
  CHECK(record.at("step") == 1);
  CHECK(record.at("sample_ids").size() == 3);

  config.output_dir = (start.job.root() / "skipping").string();
  config.guard.on_non_finite = "skip";
  config.guard.max_skipped_in_a_row = 3;
  CHECK(code_of([&] { train_grpo(config, start.job.environment); }) == ErrorCode::kDivergence);
  const auto lines = lines_of(start.job.read("skipping/metrics.jsonl"));
  REQUIRE(lines.size() == 3);  // Three steps that were left out; the fourth stops the run.
  CHECK(lines.back().at("updates/skipped_non_finite") == 3);
  CHECK(lines.back().at("weights/version") == 0);
}

TEST_CASE("an entropy out of bounds saves the model and stops, or lowers the rate") {
  const ColdStart& start = cold_start();
  auto config = start.grpo("stopped");
  config.guard.min_entropy = 100;  // Every step is below.
  CHECK(code_of([&] { train_grpo(config, start.job.environment); }) == ErrorCode::kDivergence);
  CHECK(std::filesystem::exists(start.job.root() / "stopped/model/model.safetensors"));
  CHECK(lines_of(start.job.read("stopped/metrics.jsonl")).size() == 1);

  config.output_dir = (start.job.root() / "lowered").string();
  config.guard.on_divergence = "lower_rate";
  config.guard.rate_factor = 0.5;
  config.optimizer.lr_scheduler_type = "constant";
  const auto lines = start.run(config);
  CHECK(lines[0].at("learning_rate") == 1e-3);
  CHECK(lines[1].at("learning_rate") == 0.5e-3);
  CHECK(lines[3].at("learning_rate") == 0.125e-3);
  CHECK(lines[3].at("guard/out_of_bounds") == 4);
}

}  // namespace ferro
