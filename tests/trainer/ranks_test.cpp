#include "tests/trainer/ranks.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "data/packing.h"
#include "trainer/sft_step.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::check_same_metrics;
using testing::check_same_step;
using testing::make_cold_start;
using testing::on_ranks;
using testing::prompts_of;
using testing::short_grpo;
using testing::short_sft;
using testing::TinyJob;
using testing::Train;
using testing::train_on_ranks;

/// `config` on one rank, two and three: the first step is the same step, with the same metrics.
template <class Config>
void check_ranks_take_the_same_step(const TinyJob& job, Config config, Train<Config> train) {
  const std::string name = fs::path(config.output_dir).filename().string();
  train(config, job.environment);
  const fs::path alone = config.output_dir;
  for (const int ranks : {2, 3}) {
    const std::string other = name + "_on_" + std::to_string(ranks);
    config.output_dir = (job.root() / other).string();
    train_on_ranks(ranks, job, config, train);
    check_same_step(config.model_name_or_path, alone / "model", job.root() / other / "model");
    check_same_metrics(job, name, other, 1);
  }
}

}  // namespace

TEST_CASE("two and three ranks take the same supervised step as one, and name the same rows") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a", 1);
  check_ranks_take_the_same_step(job, config, &train_sft);
  config.per_device_train_batch_size = 12;  // All 24 rows, the broken one among them.
  config.output_dir = (job.root() / "b").string();
  check_ranks_take_the_same_step(job, config, &train_sft);
  CHECK(job.read("b/set_aside.jsonl") == job.read("b_on_3/set_aside.jsonl"));
}

TEST_CASE("ranks go through the same rows for epochs, each broken one named once, and only rank 0 writes") {
  const TinyJob job;
  SftConfig config = short_sft(job, "a", 9);  // Three epochs: every row comes to every rank.
  train_sft(config, job.environment);
  config.output_dir = (job.root() / "b").string();
  train_on_ranks(3, job, config, &train_sft);
  CHECK(job.read("a/set_aside.jsonl") == job.read("b/set_aside.jsonl"));
  const auto left = testing::lines_of(job.read("a/metrics.jsonl")),
             right = testing::lines_of(job.read("b/metrics.jsonl"));
  REQUIRE(left.size() == right.size());
  for (std::size_t i = 0; i < 9; ++i) {
    CHECK(left[i].at("num_tokens") == right[i].at("num_tokens"));
    CHECK(left[i].at("epoch") == right[i].at("epoch"));
    CHECK(left[i].at("loss").get<double>() == Approx(right[i].at("loss").get<double>()).epsilon(1e-3));
  }
  CHECK(std::distance(fs::directory_iterator(job.root() / "b/incarnations"), {}) == 1);
}

TEST_CASE("two and three ranks take the same GRPO step as one, from the same answers") {
  const TinyJob job;
  make_cold_start(job);
  const GrpoConfig config = short_grpo(job, "a", 1);
  check_ranks_take_the_same_step(job, config, &train_grpo);
  CHECK(testing::lines_of(job.read("a/metrics.jsonl")).at(0).at("reward_std").get<double>() > 0);
  for (const char* run : {"a_on_2", "a_on_3"})
    CHECK(job.read("a/rollouts/step-000001.jsonl") ==
          job.read(std::string(run) + "/rollouts/step-000001.jsonl"));
}

TEST_CASE(
    "losses that are defined per micro-batch and rewards less a divergence do not depend on the ranks") {
  const TinyJob job;
  make_cold_start(job);
  GrpoConfig config = short_grpo(job, "bnpo", 1);
  config.loss.loss_type = "bnpo";
  config.loss.entropy_coef = 0.01;
  check_ranks_take_the_same_step(job, config, &train_grpo);
  config = short_grpo(job, "rloo", 1);
  config.kl_in_reward = true;
  check_ranks_take_the_same_step(job, config, &train_grpo);
}

TEST_CASE("running freely, ranks train on the same prompts in the same order, chosen ones too") {
  const TinyJob job;
  make_cold_start(job);
  for (const bool chosen : {false, true}) {
    const std::string name = chosen ? "chosen" : "plain";
    GrpoConfig config = short_grpo(job, name, 6);
    config.num_iterations = chosen ? 1 : 2;
    config.steps_per_generation = chosen ? 1 : 3;
    config.curriculum.max_pass_rate = chosen ? 0.9 : 1.0;
    // So little is learnt that no answer changes: which prompts are chosen depends on the answers.
    config.optimizer.learning_rate = 1e-8;
    train_grpo(config, job.environment);
    config.output_dir = (job.root() / (name + "_on_2")).string();
    train_on_ranks(2, job, config, &train_grpo);
    CHECK(prompts_of(job, name, chosen ? 6 : 1) == prompts_of(job, name + "_on_2", chosen ? 6 : 1));
    check_same_metrics(job, name, name + "_on_2", 6);
  }
}

TEST_CASE("a rank without pictures, with twice the micro-batches, and one without any take the same step") {
  const ModelConfig shape = testing::tiny_config();
  std::vector<PackedBatch> batches;
  for (std::uint64_t i = 0; i < 6; ++i) {
    std::shared_ptr<const Prompt> prompt = testing::random_prompt(shape, i, 4);
    if (i >= 2) {
      auto text = std::make_shared<Prompt>();
      text->ids.assign(prompt->ids.begin(), prompt->ids.begin() + 4);
      text->positions = mrope_positions(text->ids, {}, shape.vision_tokens());
      prompt = text;
    }
    BatchPacker packer;
    packer.add_row(*prompt, testing::random_answer(i, static_cast<std::int64_t>(4 + i)), false,
                   shape.vision_tokens());
    batches.push_back(packer.finish());
  }
  OptimizerConfig optimizer;
  optimizer.learning_rate = 1e-3;
  const SystemClock clock;
  const auto train = [&](std::span<const PackedBatch> own, Communicator& world, bool shard) {
    Model model = testing::random_model(shape, 5, true);
    SftStep step(model, LayerWalk::Recompute::kFull, {}, optimizer, 4, world, clock, 0, shard);
    auto outcome = step.gradients(own);
    step.apply(outcome);
    return std::pair(outcome, model.arena.weights.clone());
  };
  const auto alone = make_thread_communicators(1);
  const auto [expected, expected_weights] = train(batches, *alone[0], false);
  // Two batches with pictures, four without, none.
  const std::vector<std::size_t> bounds{0, 2, 6, 6};
  for (const bool shard : {false, true}) {
    std::vector<at::Tensor> weights(3);
    std::vector<SftStep::Outcome> outcomes(3);
    const auto ends = on_ranks(3, {}, [&](int rank, TrainEnvironment& environment) {
      const auto r = static_cast<std::size_t>(rank);
      std::tie(outcomes[r], weights[r]) =
          train(std::span(batches).subspan(bounds[r], bounds[r + 1] - bounds[r]), *environment.ranks, shard);
    });
    const at::Tensor start = testing::random_model(shape, 5, true).arena.weights;
    const at::Tensor expected_step = expected_weights - start;
    for (std::size_t r = 0; r < 3; ++r) {
      INFO(ends[r].what);
      REQUIRE_FALSE(ends[r].code.has_value());
      CHECK(std::abs(outcomes[r].reduced.loss - expected.reduced.loss) <= 2e-6);
      CHECK(outcomes[r].tokens == expected.tokens);
      CHECK(metrics_of(outcomes[r].sums).size() == 2);
      CHECK(at::equal(weights[r], weights[0]));
      const at::Tensor step = weights[r] - start;
      CHECK((step - expected_step).abs().max().item<double>() <=
            0.25 * expected_step.abs().max().item<double>());
      CHECK(step.dot(expected_step).item<double>() / (step.norm() * expected_step.norm()).item<double>() >=
            0.9995);
    }
  }
}

TEST_CASE("a sharded optimizer takes the same steps bit for bit, and its checkpoints serve any ranks") {
  const TinyJob job;
  for (const char* dtype : {"float32", "int8"}) {
    SftConfig config = short_sft(job, std::string("whole_") + dtype, 4);
    config.optimizer.state_dtype = dtype;
    config.train.merger = false;  // What is trained lies in two runs.
    config.saving.save_steps = 2;
    train_on_ranks(3, job, config, &train_sft);
    const fs::path whole = config.output_dir;
    config.ranks.shard = "optimizer";
    config.output_dir = (job.root() / (std::string("shard_") + dtype)).string();
    train_on_ranks(3, job, config, &train_sft);
    const fs::path sharded = config.output_dir;
    CHECK(read_file(whole / "model/model.safetensors") == read_file(sharded / "model/model.safetensors"));
    CHECK(read_file(whole / "metrics.jsonl") == read_file(sharded / "metrics.jsonl"));
    const auto files = json::parse(read_file(sharded / "checkpoints/step-000004/optimizer/index.json"));
    REQUIRE(files.at("writers").size() == 3);
    CHECK(fs::file_size(sharded / "checkpoints/step-000004/optimizer/rank-001.safetensors") <
          fs::file_size(whole / "checkpoints/step-000004/optimizer/rank-000.safetensors") / 2);

    // On as many ranks, sharded or not, to the same bytes; the moments go where they belong.
    config.saving.resume_from_checkpoint = "true";
    for (const bool shard : {true, false}) {
      const fs::path copy = sharded.string() + (shard ? "_again" : "_whole");
      testing::copy_killed_run(sharded, copy, 2);
      config.output_dir = copy.string();
      config.ranks.shard = shard ? "optimizer" : "none";
      train_on_ranks(3, job, config, &train_sft);
      CHECK(read_file(copy / "model/model.safetensors") == read_file(whole / "model/model.safetensors"));
    }
    const fs::path copy = sharded.string() + "_on_2";
    testing::copy_killed_run(sharded, copy, 2);
    config.output_dir = copy.string();
    config.ranks.shard = "optimizer";
    train_on_ranks(2, job, config, &train_sft);
    check_same_step(whole / "checkpoints/step-000002/model", whole / "model", copy / "model");
  }
}

TEST_CASE("a sharded optimizer does the same under an adapter and in GRPO") {
  const TinyJob job;
  make_cold_start(job);
  GrpoConfig config = short_grpo(job, "whole", 2);
  config.lora.r = 4;
  train_on_ranks(2, job, config, &train_grpo);
  config.ranks.shard = "optimizer";
  config.output_dir = (job.root() / "sharded").string();
  train_on_ranks(2, job, config, &train_grpo);
  CHECK(job.read("whole/adapter/adapter_model.safetensors") ==
        job.read("sharded/adapter/adapter_model.safetensors"));
  CHECK(job.read("whole/metrics.jsonl") == job.read("sharded/metrics.jsonl"));
}

}  // namespace ferro
