#include <cmath>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/clock.h"
#include "tests/core/scratch_folder.h"
#include "tests/trainer/golden_prompts.h"
#include "trainer/sft_step.h"

namespace ferro {
namespace {

using nlohmann::json;

// The golden batch: padded rows with labels, packed without their padding.
PackedBatch golden_batch(const std::filesystem::path& golden, const json& training,
                         const ModelConfig& config) {
  const json& inputs = training.at("batch");
  const auto get = [&](const char* name) { return testing::manifest_tensor(golden, inputs.at(name)); };
  const at::Tensor ids = get("input_ids"), mask = get("attention_mask"), labels = get("labels");
  const auto all_images = testing::media_of(golden, inputs, config);
  std::span<const std::shared_ptr<const ImageInput>> images(all_images);
  const auto ignored = training.at("ignore_index").get<std::int64_t>();
  BatchPacker packer;
  std::vector<Target> targets;
  std::int32_t sequences = 0;
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    std::vector<std::int32_t> tokens;
    const auto begin = static_cast<std::int32_t>(packer.num_tokens());
    for (std::int64_t t = 0; t < ids.size(1); ++t) {
      if (mask[row][t].item<std::int64_t>() == 0) continue;
      const auto label = labels[row][t].item<std::int64_t>();
      const auto at = static_cast<std::int32_t>(tokens.size());
      if (label != ignored && at > 0)
        targets.push_back({begin + at - 1, static_cast<std::int32_t>(label), sequences});
      tokens.push_back(static_cast<std::int32_t>(ids[row][t].item<std::int64_t>()));
    }
    packer.add_prompt(*testing::prompt_of(std::move(tokens), images, config));
    ++sequences;
  }
  REQUIRE(images.empty());
  PackedBatch batch = packer.finish();
  batch.targets = std::move(targets);
  batch.num_sequences = sequences;
  return batch;
}

// A checkpoint whose head is tied, or not, as the trained model's was; all hold the same weights. Where the
// head is a copy of the embedding in each, its config.json says here that they are one.
std::filesystem::path trained_checkpoint(const std::filesystem::path& golden, const json& manifest,
                                         const testing::ScratchFolder& scratch) {
  const SafetensorsFile gradients(golden / manifest.at("training").at("grads").get<std::string>());
  const bool tied = !gradients.entries().contains("lm_head.weight");
  const json& checkpoints = manifest.at("model").at("checkpoints");
  for (const json& entry : checkpoints)
    if (entry.at("tied_embeddings").get<bool>() == tied) return golden / entry.at("path").get<std::string>();
  REQUIRE(tied);
  const std::filesystem::path source = golden / checkpoints.at(0).at("path").get<std::string>();
  for (const auto& file : std::filesystem::directory_iterator(source))
    std::filesystem::create_symlink(std::filesystem::absolute(file.path()),
                                    scratch.path() / file.path().filename());
  json config = testing::read_json(source / "config.json");
  config["tie_word_embeddings"] = true;
  write_file_atomically(scratch / "config.json", config.dump());
  return scratch.path();
}

// The loss after the last step: its name tells how many there were.
double final_loss_of(const json& record) {
  for (const auto& [key, value] : record.items())
    if (key.starts_with("final_loss_after_")) return value.get<double>();
  FAIL("training.json has no final loss");
  return 0;
}

OptimizerConfig optimizer_of(const json& training) {
  const json& optimizer = training.at("optimizer");
  OptimizerConfig config;
  config.learning_rate = optimizer.at("lr");
  config.adam_beta1 = optimizer.at("beta1");
  config.adam_beta2 = optimizer.at("beta2");
  config.adam_epsilon = optimizer.at("eps");
  config.weight_decay = optimizer.at("weight_decay");
  config.decay_parameters = optimizer.at("weight_decay_on") == "all parameters" ? "all" : "huggingface";
  config.max_grad_norm = training.at("max_grad_norm");
  config.lr_scheduler_type = training.at("scheduler").at("name");
  config.warmup_steps = training.at("scheduler").at("warmup_steps");
  return config;
}

void check_gradients(const Model& model, const std::filesystem::path& golden, const json& training) {
  const SafetensorsFile stored(golden / training.at("grads").get<std::string>());
  const double of_max = training.at("tolerances").at("gradient").at("of_max");
  double worst = 0;
  std::string worst_name;
  std::int64_t compared = 0;
  for (const auto& [name, entry] : stored.entries()) {
    INFO(name);
    const at::Tensor expected = stored.tensor(name);
    const double largest = expected.abs().max().item<double>();
    const double difference = (model.arena.export_gradient(name) - expected).abs().max().item<double>();
    CHECK(difference <= of_max * largest);
    const double share = difference == 0 ? 0 : difference / largest;
    if (testing::worse_of(worst, share) != worst) worst_name = name;
    worst = testing::worse_of(worst, share);
    ++compared;
  }
  CHECK(compared == training.at("parameters").get<std::int64_t>());
  testing::report_difference(
      "training gradients of " + std::to_string(compared) + " tensors, of a tensor's largest: " + worst_name,
      worst, of_max);
}

void check_weights(const Model& model, const std::filesystem::path& golden, const json& training) {
  const SafetensorsFile stored(golden / training.at("final_weights").get<std::string>());
  const json& tolerance = training.at("tolerances").at("final_weights");
  double worst = 0, outside = 0, all = 0;
  for (const auto& [name, entry] : stored.entries()) {
    const at::Tensor difference = (model.arena.export_parameter(name) - stored.tensor(name)).abs();
    worst = testing::worse_of(worst, difference.max().item<double>());
    // What is not within, so that a NaN is outside.
    outside += difference.le(tolerance.at("p999").get<double>()).logical_not().sum().item<double>();
    all += static_cast<double>(difference.numel());
  }
  CHECK(worst <= tolerance.at("abs").get<double>());
  CHECK(outside <= 0.001 * all);
  testing::report_difference("training final weights", worst, tolerance.at("abs"));
  testing::report_difference("training final weights, share beyond " + tolerance.at("p999").dump(),
                             outside / all, 0.001);
}

}  // namespace

TEST_CASE("supervised steps agree with transformers: loss, gradients, trajectory, weights") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/training");
  const json manifest = testing::read_json(*golden / "manifest.json");
  const json& training = manifest.at("training");
  const json record = testing::read_json(*golden / training.at("file").get<std::string>());
  const json& tolerances = training.at("tolerances");
  const testing::ScratchFolder scratch;
  Model model = load_model(trained_checkpoint(*golden, manifest, scratch), true);
  const std::vector<PackedBatch> batches{golden_batch(*golden, training, model.config)};
  const auto steps = training.at("steps").get<std::int64_t>();
  const auto world = make_thread_communicators(1);
  const SystemClock clock;
  SftStep step(model, LayerWalk::Recompute::kNone, {}, optimizer_of(training),
               training.at("scheduler").at("total_steps"), *world[0], clock);
  testing::Closest learning_rate;
  for (std::int64_t i = 0; i < steps; ++i) {
    INFO("step " << i);
    const json& stored = record.at("steps").at(static_cast<std::size_t>(i));
    SftStep::Outcome outcome = step.gradients(batches);
    if (i == 0) check_gradients(model, *golden, training);
    CHECK(testing::slack(tolerances.at("loss").at(static_cast<std::size_t>(i)), outcome.reduced.loss,
                         stored.at("loss")) >= 0);
    const std::string of_step = " of step " + std::to_string(i);
    testing::report_difference("training loss" + of_step,
                               std::abs(outcome.reduced.loss - stored.at("loss").get<double>()),
                               tolerances.at("loss").at(static_cast<std::size_t>(i)).at("abs"));
    const double norm = stored.at("grad_norm");
    testing::report_difference("training gradient norm" + of_step + ", relative",
                               std::abs(outcome.reduced.gradient_norm - norm) / norm,
                               tolerances.at("grad_norm").at("rel"));
    CHECK(testing::slack(tolerances.at("grad_norm"), outcome.reduced.gradient_norm, stored.at("grad_norm")) >=
          0);
    CHECK(learning_rate.add("", step.apply(outcome), stored.at("lr"), tolerances.at("learning_rate")));
  }
  learning_rate.report("training learning rate");
  const double final_loss = step.gradients(batches).reduced.loss, stored_loss = final_loss_of(record);
  CHECK(testing::slack(tolerances.at("final_loss"), final_loss, stored_loss) >= 0);
  testing::report_difference("training loss after the last step", std::abs(final_loss - stored_loss),
                             tolerances.at("final_loss").at("abs"));
  check_weights(model, *golden, training);
}

}  // namespace ferro
