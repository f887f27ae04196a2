#include "trainer/step_updater.h"

#include <cmath>
#include <thread>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/clock.h"
#include "model/lora.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/optimizer_files.h"
#include "trainer/sft_step.h"

namespace ferro {
namespace {

/// One row, with a picture or without.
PackedBatch row_of(const ModelConfig& config, std::uint64_t key, bool picture, std::int64_t answer = 9) {
  Prompt prompt = *testing::random_prompt(config, key, 5);
  if (!picture) {
    prompt.images.clear();
    prompt.image_token_begin.clear();
    prompt.ids.resize(5);
    prompt.positions = mrope_positions(prompt.ids, prompt.images, config.vision_tokens());
  }
  BatchPacker packer;
  packer.add_row(prompt, testing::random_answer(key, answer), false, config.vision_tokens());
  return packer.finish();
}

OptimizerConfig constant_rate() {
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.lr_scheduler_type = "constant";
  config.weight_decay = 0.1;
  config.decay_parameters = "all";
  config.max_grad_norm = 1;
  return config;
}

/// A tiny model that all or an adapter of is trained, and its step.
struct Stepped {
  Model model = testing::random_model(testing::tiny_config(), 3, true);
  std::unique_ptr<SftStep> step;

  explicit Stepped(Communicator& communicator, bool adapter = false,
                   const OptimizerConfig& config = constant_rate()) {
    if (adapter) {
      LoraConfig lora;
      lora.r = 4;
      attach_adapter(model, std::make_shared<LoraAdapter>(make_lora(model, lora, {}, 5)), true);
      model.adapter->arena.weights.add_(0.01);  // B too, or A has a gradient of zero.
    }
    step = std::make_unique<SftStep>(model, LayerWalk::Recompute::kNone, std::vector<std::int32_t>{192, 193},
                                     config, 100, communicator, clock_, 7);
  }
  ParameterArena& arena() { return model.adapter ? model.adapter->arena : model.arena; }
  SftStep::Outcome take(const std::vector<PackedBatch>& batches) {
    SftStep::Outcome outcome = step->gradients(batches);
    step->apply(outcome);
    return outcome;
  }

 private:
  SystemClock clock_;
};

bool sees_pictures_only(const ParameterInfo& info) {
  return part_of(info.name) != ModelPart::kLanguage;
}

at::Tensor part_of_flat(const at::Tensor& flat, const ParameterInfo& info) {
  return flat.narrow(0, info.offset, info.size);
}

/// One step of torch.optim.AdamW from moments of zero, in fp64: both corrections cancel what the averages
/// weigh.
at::Tensor first_update(const at::Tensor& weight, const at::Tensor& gradient, double rate, double decay) {
  const at::Tensor g = gradient.to(at::kDouble);
  return weight.to(at::kDouble) * (1 - rate * decay) - rate * g / (g.abs() + 1e-8);
}

}  // namespace

TEST_CASE("a step without pictures leaves vision tower and merger as they are, and does not count for them") {
  const auto world = make_thread_communicators(1);
  for (const bool adapter : {false, true}) {
    INFO("adapter " << adapter);
    Stepped run(*world[0], adapter);
    ParameterArena& arena = run.arena();
    const at::Tensor start = arena.weights.clone();
    for (std::uint64_t i = 0; i < 3; ++i) run.take({row_of(run.model.config, i, false)});
    const at::Tensor before = arena.weights.clone();
    for (const ParameterInfo& info : arena.table.parameters) {
      INFO(info.name);
      CHECK(at::equal(part_of_flat(start, info), part_of_flat(before, info)) == sees_pictures_only(info));
    }
    // The first step with a picture is these parts' first.
    SftStep::Outcome outcome = run.step->gradients(
        std::vector{row_of(run.model.config, 4, false), row_of(run.model.config, 5, true)});
    const at::Tensor gradients =
        arena.gradients * std::min(1.0, 1.0 / (outcome.reduced.gradient_norm + 1e-6));
    CHECK(run.step->apply(outcome) == 1e-3);
    double by_another_count = 0;
    for (const ParameterInfo& info : arena.table.parameters) {
      INFO(info.name);
      const at::Tensor expected =
          first_update(part_of_flat(before, info), part_of_flat(gradients, info), 1e-3, 0.1);
      const double apart = (part_of_flat(arena.weights, info) - expected).abs().max().item<double>();
      if (sees_pictures_only(info)) {
        CHECK(apart <= 1e-6);
      } else {
        by_another_count = std::max(by_another_count, apart);
      }
    }
    CHECK(by_another_count > 1e-4);
    const PartUpdates& updates = run.step->updater().optimizer().updates();
    CHECK(updates.vision == 1);
    CHECK(updates.merger == 1);
    CHECK(updates.language == 4);
    CHECK(run.step->steps_done() == 4);
  }
}

TEST_CASE("pictures of rows without targets count: their gradient is zero, not absent") {
  const auto world = make_thread_communicators(1);
  Stepped run(*world[0]);
  const std::vector<PackedBatch> batches{row_of(run.model.config, 1, false),
                                         row_of(run.model.config, 2, true, 0)};
  REQUIRE(batches[1].targets.empty());
  const at::Tensor before = run.model.arena.weights.clone();
  run.take(batches);
  const at::Tensor vision = run.model.arena.weights.narrow(0, 0, 100);
  // Decay alone.
  CHECK((vision - before.narrow(0, 0, 100) * (1 - 1e-3 * 0.1)).abs().max().item<double>() <= 1e-7);
  CHECK_FALSE(at::equal(vision, before.narrow(0, 0, 100)));
}

TEST_CASE("one rank's pictures update the vision tower of all, and ranks end with one rank's weights") {
  // By step, a row for each rank: has it a picture?
  const std::vector<std::pair<bool, bool>> steps{
      {false, false}, {false, true}, {true, false}, {false, false}, {true, true}};
  const auto alone = make_thread_communicators(1);
  Stepped single(*alone[0]);
  auto world = make_thread_communicators(2);
  std::vector<std::unique_ptr<Stepped>> ranks;
  for (const auto& communicator : world) ranks.push_back(std::make_unique<Stepped>(*communicator));
  const ModelConfig config = single.model.config;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    INFO("step " << s);
    const std::vector<PackedBatch> rows{row_of(config, 10 + s, steps[s].first),
                                        row_of(config, 20 + s, steps[s].second)};
    single.take(rows);
    {
      std::vector<std::jthread> threads;
      for (std::size_t rank = 0; rank < 2; ++rank)
        threads.emplace_back([&, rank] { ranks[rank]->take({rows[rank]}); });
    }
    CHECK(at::equal(ranks[0]->model.arena.weights, ranks[1]->model.arena.weights));
    // Ranks add in another order: fp32 noise, which AdamW's quotient makes larger where a gradient is small.
    const at::Tensor apart = (ranks[0]->model.arena.weights - single.model.arena.weights).abs();
    CHECK(apart.gt(1e-5).sum().item<double>() <= 1e-3 * static_cast<double>(apart.numel()));
    for (const auto& rank : ranks) {
      const PartUpdates &got = rank->step->updater().optimizer().updates(),
                        &expected = single.step->updater().optimizer().updates();
      CHECK(got.vision == expected.vision);
      CHECK(got.merger == expected.merger);
      CHECK(got.language == expected.language);
    }
  }
  CHECK(single.step->updater().optimizer().updates().vision == 3);
  CHECK(single.step->updater().optimizer().updates().language == 5);
}

TEST_CASE(
    "moments and counts read from a checkpoint go on to the same bits, steps without pictures included") {
  const std::vector<bool> pictures{false, true, false, true, false, true};
  for (const bool adapter : {false, true}) {
    for (const char* dtype : {"float32", "int8"}) {
      INFO(dtype << ", adapter " << adapter);
      OptimizerConfig config = constant_rate();
      config.state_dtype = dtype;
      const auto world = make_thread_communicators(1);
      Stepped whole(*world[0], adapter, config);
      std::vector<at::Tensor> weights;
      const testing::ScratchFolder scratch;
      std::vector<std::unique_ptr<CheckpointBuilder>> checkpoints;
      const auto take = [&](Stepped& run, std::size_t s) {
        run.take({row_of(run.model.config, s, pictures[s])});
      };
      for (std::size_t s = 0; s < pictures.size(); ++s) {
        take(whole, s);
        weights.push_back(whole.arena().weights.clone());
        checkpoints.push_back(
            std::make_unique<CheckpointBuilder>(scratch.path(), static_cast<std::int64_t>(s)));
        write_optimizer(*checkpoints.back(), whole.step->updater().optimizer(), whole.arena());
      }
      for (std::size_t from = 0; from + 1 < pictures.size(); ++from) {
        INFO("from step " << from);
        Stepped resumed(*world[0], adapter, config);
        resumed.arena().weights.copy_(weights[from]);
        read_optimizer(checkpoints[from]->path(), resumed.step->updater().optimizer(), resumed.arena());
        for (std::size_t s = from + 1; s < pictures.size(); ++s) take(resumed, s);
        CHECK(at::equal(resumed.arena().weights, weights.back()));
      }
    }
  }
}

TEST_CASE("moments without counts by part, of an earlier format, and counts that cannot be are refused") {
  const auto world = make_thread_communicators(1);
  Stepped run(*world[0]);
  run.take({row_of(run.model.config, 1, true)});
  const testing::ScratchFolder scratch;
  CheckpointBuilder checkpoint(scratch.path(), 1);
  write_optimizer(checkpoint, run.step->updater().optimizer(), run.arena());
  const std::filesystem::path file = checkpoint.path() / "optimizer" / "index.json";
  const auto whole = nlohmann::json::parse(read_file(file));
  CHECK(whole.at("updates").at("vision") == 1);
  const auto message_of = [&](const nlohmann::json& index) {
    write_file_atomically(file, index.dump());
    std::string what;
    CHECK(testing::code_of(
              [&] { read_optimizer(checkpoint.path(), run.step->updater().optimizer(), run.arena()); },
              &what) == ErrorCode::kData);
    CHECK_THAT(what, Catch::Contains("index.json"));
    return what;
  };
  auto index = whole;
  index["format_version"] = 1;
  index.erase("updates");
  CHECK_THAT(message_of(index), Catch::Contains("format_version is 1, this program reads 2"));
  index = whole;
  index.erase("updates");
  CHECK_THAT(message_of(index), Catch::Contains("updates"));
  index = whole;
  index["updates"]["merger"] = 2;
  CHECK_THAT(message_of(index), Catch::Contains("2 updates of merger in 1 steps"));
}

}  // namespace ferro
