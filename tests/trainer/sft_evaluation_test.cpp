#include <sstream>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"
#include "trainer/validation.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::TinyJob;

std::vector<json> evaluations(const std::string& text) {
  std::vector<json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (json parsed = json::parse(line); parsed.contains("eval/accuracy")) lines.push_back(std::move(parsed));
  return lines;
}

SftConfig with_responses(const TinyJob& job, const std::string& name) {
  SftConfig config = job.sft(name);
  config.data.eval_file = config.data.train_file;
  config.eval_steps = 4;
  config.max_steps = 12;
  return config;
}

}  // namespace

TEST_CASE("validation loss falls, is measured before the first step where asked, and picks the best model") {
  const TinyJob job;
  auto config = with_responses(job, "a");
  config.eval_on_start = true;
  config.metric_for_best_model = "eval_loss";
  train_sft(config, job.environment);
  const auto lines = evaluations(job.read("a/metrics.jsonl"));
  REQUIRE(lines.size() == 4);
  std::size_t best = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(lines[i].at("step") == 4 * i);
    if (lines[i].at("eval/loss") < lines[best].at("eval/loss")) best = i;
  }
  // Random weights over some 300 tokens: about log(300).
  CHECK(lines[0].at("eval/loss").get<double>() == Approx(std::log(300.0)).margin(1.5));
  CHECK(lines[3].at("eval/loss").get<double>() < 0.7 * lines[0].at("eval/loss").get<double>());
  CHECK(lines[3].at("eval/mean_token_accuracy").get<double>() >
        lines[0].at("eval/mean_token_accuracy").get<double>());
  const json provenance = json::parse(job.read("a/provenance.json"));
  CHECK(provenance.at("best").at("step") == lines[best].at("step"));
  CHECK(provenance.at("best").at("eval_loss") == lines[best].at("eval/loss"));
}

TEST_CASE("validation loss is the mean over answer tokens, however they are packed") {
  const TinyJob job;
  const auto config = with_responses(job, "a");
  const Model model = load_model(config.model_name_or_path, false);
  const PromptSource source(config.model_name_or_path, model.config, config.data, {}, job.environment);
  const Dataset rows = load_evaluation_rows(config.data);
  const Validation whole = validate(model, source.prompts(), rows.rows, {});
  const Validation small = validate(model, source.prompts(), rows.rows, {.max_tokens = 64});
  CHECK(whole.targets > 100);
  CHECK(small.targets == whole.targets);
  CHECK(small.loss == Approx(whole.loss).epsilon(1e-9));
  CHECK(small.token_accuracy == whole.token_accuracy);
  const Validation all = validate(model, source.prompts(), rows.rows, {.all_tokens = true});
  CHECK(all.targets > whole.targets);
}

TEST_CASE("a best model by loss needs responses to measure it on") {
  const TinyJob job;
  auto config = job.sft("a");
  config.metric_for_best_model = "eval_loss";  // Its evaluation file has solutions only.
  CHECK_THROWS_AS(train_sft(config, job.environment), Error);
}

TEST_CASE("a token budget trains as well as a row count, and repeats exactly") {
  const TinyJob job;
  auto config = job.sft("a");
  config.max_steps = 8;
  train_sft(config, job.environment);
  config.output_dir = (job.root() / "b").string();
  config.max_tokens_per_micro_batch = 90;
  train_sft(config, job.environment);
  config.output_dir = (job.root() / "c").string();
  train_sft(config, job.environment);
  CHECK(job.read("b/metrics.jsonl") == job.read("c/metrics.jsonl"));
  const auto last_loss = [&](const char* run) {
    std::istringstream in(job.read(std::string(run) + "/metrics.jsonl"));
    std::string line, last;
    while (std::getline(in, line))
      if (json::parse(line).contains("loss")) last = line;
    return json::parse(last).at("loss").get<double>();
  };
  CHECK(last_loss("b") == Approx(last_loss("a")).epsilon(1e-3));
}

}  // namespace ferro
