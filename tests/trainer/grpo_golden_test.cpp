#include <cmath>
#include <map>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "core/clock.h"
#include "model/tensor_names.h"
#include "tests/trainer/golden_prompts.h"
#include "trainer/advantages.h"
#include "trainer/grpo_step.h"
#include "trainer/step_updater.h"

namespace ferro {
namespace {

using nlohmann::json;

// One run of TRL's GRPOTrainer, repeated from its stored completions.
class Variant {
 public:
  Variant(const std::filesystem::path& golden, const json& section, const std::string& name)
      : golden_(golden),
        name_(name),
        section_(section),
        tolerances_(section.at("tolerances")),
        entry_(section.at("variants").at(name)),
        record_(testing::read_json(golden / section.at("file").get<std::string>()).at("variants").at(name)),
        args_(record_.at("args")),
        folder_(golden / section.at("model").at("path").get<std::string>()),
        model_(load_model(folder_, true)),
        reference_(load_model(folder_, false)),
        world_(make_thread_communicators(1)),
        step_(model_, &reference_, loss_config(), LayerWalk::Recompute::kNone, {},
              args_.value("temperature", 1.0)),
        updater_(model_, optimizer_config(), args_.at("max_steps"), *world_[0]) {
    rows_per_micro_batch_ = args_.at("per_device_train_batch_size");
    accumulation_ = args_.at("gradient_accumulation_steps");
    iterations_ = args_.at("num_iterations");
    slices_ = args_.at("steps_per_generation");
  }

  void run() {
    for (std::int64_t s = 0; s < entry_.at("steps").get<std::int64_t>(); ++s) {
      INFO("step " << s);
      updater_.zero_gradients();
      double loss = 0;
      pictures_ = false;
      for (std::int64_t i = 0; i < accumulation_; ++i) loss += micro_step(s * accumulation_ + i);
      const json& log = record_.at("steps").at(static_cast<std::size_t>(s));
      const StepUpdater::Reduced reduced = updater_.reduce(loss, pictures_);
      compare("loss", loss, log.at("loss"));
      compare("grad_norm", reduced.gradient_norm, log.at("grad_norm"));
      compare("learning_rate", updater_.apply(reduced), log.at("learning_rate"));
    }
    for (const auto& [quantity, closest] : closest_) closest.report("GRPO run " + name_);
    testing::report_difference("GRPO run " + name_ + ": reference and old log-probs", worst_logp_,
                               tolerances_.at("logps").at("abs"));
    if (entry_.at("final_weights_stored").get<bool>()) check_final_weights();
  }

 private:
  struct Generation {
    std::int64_t index = -1;
    std::vector<MicroBatch> micro_batches;                      ///< One per slice of rows.
    std::vector<std::vector<std::vector<AnswerState>>> states;  ///< [slice][group][answer]
  };

  // By the manifest's tolerance of that name.
  void compare(const char* quantity, double got, double stored) {
    INFO(quantity << " " << got << " against " << stored);
    CHECK(closest_[quantity].add(quantity, got, stored, tolerances_.at(quantity)));
  }

  PolicyLossConfig loss_config() const {
    PolicyLossConfig config;
    config.loss_type = args_.at("loss_type");
    config.importance_sampling_level = args_.value("importance_sampling_level", "token");
    config.epsilon = args_.at("epsilon");
    config.epsilon_high = args_.value("epsilon_high", config.epsilon);
    config.delta = args_.value("delta", 0.0);
    config.beta = args_.at("beta");
    config.use_bias_correction_kl = args_.value("use_bias_correction_kl", true);
    config.top_entropy_quantile = args_.value("top_entropy_quantile", 1.0);
    config.off_policy_mask_threshold = args_.value("off_policy_mask_threshold", 0.0);
    config.entropy_coef = args_.value("entropy_coef", 0.0);
    config.sapo_temperature_pos = args_.value("sapo_temperature_pos", config.sapo_temperature_pos);
    config.sapo_temperature_neg = args_.value("sapo_temperature_neg", config.sapo_temperature_neg);
    config.vespo_k_pos = args_.value("vespo_k_pos", config.vespo_k_pos);
    config.vespo_lambda_pos = args_.value("vespo_lambda_pos", config.vespo_lambda_pos);
    config.vespo_k_neg = args_.value("vespo_k_neg", config.vespo_k_neg);
    config.vespo_lambda_neg = args_.value("vespo_lambda_neg", config.vespo_lambda_neg);
    config.max_completion_length = args_.at("max_completion_length");
    return config;
  }

  OptimizerConfig optimizer_config() const {
    OptimizerConfig config;
    config.learning_rate = args_.at("learning_rate");
    config.lr_scheduler_type = args_.at("lr_scheduler_type");
    config.warmup_steps = args_.value("warmup_steps", 0);
    config.weight_decay = args_.at("weight_decay");
    config.adam_beta1 = args_.at("adam_beta1");
    config.adam_beta2 = args_.at("adam_beta2");
    config.adam_epsilon = args_.at("adam_epsilon");
    config.max_grad_norm = args_.at("max_grad_norm");
    return config;
  }

  // A prompt's images; one without has no entry.
  std::vector<std::shared_ptr<const ImageInput>> images(std::int64_t prompt) const {
    const std::string name = fmt::format("image{}", prompt);
    if (!section_.at("images").contains(name)) return {};
    const json& entry = section_.at("images").at(name);
    const at::Tensor grids = testing::manifest_tensor(golden_, entry.at("grid_thw")).view({-1, 3}),
                     rows = testing::manifest_tensor(golden_, entry.at("pixel_values"));
    std::vector<std::shared_ptr<const ImageInput>> all;
    std::int64_t begin = 0;
    for (std::int64_t i = 0; i < grids.size(0); ++i) {
      const auto at = [&](std::int64_t axis) {
        return static_cast<std::int32_t>(grids[i][axis].item<std::int64_t>());
      };
      const GridThw grid{at(0), at(1), at(2)};
      all.push_back(testing::image_of(rows.narrow(0, begin, grid.patches()), grid));
      begin += grid.patches();
    }
    REQUIRE(begin == rows.size(0));
    return all;
  }

  // Rows of one slice as groups: consecutive rows of one prompt are its answers.
  std::vector<AnsweredPrompt> groups_of(const json& generation, std::size_t begin,
                                        std::vector<std::vector<AnswerState>>& states) const {
    std::vector<AnsweredPrompt> groups;
    for (std::size_t row = begin; row < begin + static_cast<std::size_t>(rows_per_micro_batch_); ++row) {
      const auto pid = generation.at("pid").at(row).get<std::int64_t>();
      if (row == begin || pid != generation.at("pid").at(row - 1)) {
        const std::vector<std::shared_ptr<const ImageInput>> own = images(pid);
        std::span<const std::shared_ptr<const ImageInput>> left(own);
        groups.push_back(
            {testing::prompt_of(generation.at("prompt_ids").at(row).get<std::vector<std::int32_t>>(), left,
                                model_.config),
             {}});
        states.emplace_back();
      }
      groups.back().answers.push_back(
          generation.at("completion_ids").at(row).get<std::vector<std::int32_t>>());
      states.back().emplace_back().advantage = generation.at("advantages").at(row);
    }
    return groups;
  }

  void load_generation(std::int64_t index) {
    if (index == generation_.index) return;
    generation_ = {};
    generation_.index = index;
    const json& stored = record_.at("generations").at(static_cast<std::size_t>(index));
    check_advantages(stored);
    for (std::int64_t slice = 0; slice < slices_; ++slice) {
      auto& states = generation_.states.emplace_back();
      const auto groups = groups_of(stored, static_cast<std::size_t>(slice * rows_per_micro_batch_), states);
      std::vector<MicroBatch> packed = pack_groups(groups, std::int64_t{1} << 40);
      REQUIRE(packed.size() == 1);
      generation_.micro_batches.push_back(std::move(packed[0]));
    }
    // Where a generation is used for several updates in turn, its later rows are off-policy: against the
    // log-probs of the weights as they are now.
    if (slices_ <= accumulation_) return;
    const json& files = entry_.at("generations").at(static_cast<std::size_t>(index));
    for (std::size_t slice = 0; slice < generation_.micro_batches.size(); ++slice) {
      step_.score(std::span(&generation_.micro_batches[slice], 1), generation_.states[slice], false);
      check_logps(files.at("old_logps"), slice, &AnswerState::old_logps);
    }
  }

  void check_advantages(const json& stored) {
    std::vector<std::vector<std::optional<double>>> values;
    for (const json& function : stored.at("rewards")) {
      values.emplace_back();
      for (const json& value : function)
        values.back().push_back(value.is_null() ? std::nullopt : std::optional<double>(value.get<double>()));
    }
    AdvantageSettings settings;
    settings.scale_rewards = args_.at("scale_rewards");
    settings.multi_objective_aggregation =
        args_.value("multi_objective_aggregation", settings.multi_objective_aggregation);
    settings.reward_weights = args_.value("reward_weights", std::vector<double>{});
    const auto result = compute_advantages(settings, values, {}, args_.at("num_generations"));
    for (std::size_t i = 0; i < result.advantages.size(); ++i)
      compare("advantages", result.advantages[i], stored.at("advantages").at(i));
  }

  double micro_step(std::int64_t micro) {
    load_generation(micro / (slices_ * iterations_));
    const auto slice = static_cast<std::size_t>(micro % slices_);
    const bool first_iteration = micro / slices_ % iterations_ == 0;
    auto& states = generation_.states[slice];
    const json& files = entry_.at("generations").at(static_cast<std::size_t>(generation_.index));
    const json& stored = record_.at("generations").at(static_cast<std::size_t>(generation_.index));
    LossNormaliser normaliser;
    normaliser.sequences_in_step = rows_per_micro_batch_ * accumulation_;
    normaliser.tokens_in_step = stored.at("num_items_in_batch").get<double>() *
                                static_cast<double>(accumulation_) / static_cast<double>(slices_);
    normaliser.micro_batches = accumulation_;
    pictures_ = pictures_ || !generation_.micro_batches[slice].batch.images.empty();
    const auto outcome = step_.run(std::span(&generation_.micro_batches[slice], 1), states, normaliser,
                                   first_iteration && iterations_ > 1, clock_);
    check_logps(files.at("ref_logps"), slice, &AnswerState::ref_logps);
    if (iterations_ > 1) check_logps(files.at("old_logps"), slice, &AnswerState::old_logps);

    const json& expected = record_.at("micro_batches").at(static_cast<std::size_t>(micro));
    const auto metrics = metrics_of(outcome.sums);
    INFO("micro-batch " << micro);
    compare("loss", outcome.loss, expected.at("loss"));
    compare("kl", metrics.at("kl"), expected.at("kl"));
    compare("entropy", metrics.at("entropy"), expected.at("entropy"));
    return outcome.loss;
  }

  template <class Visit>
  void for_each_answer(const json& tensor, std::size_t slice, Visit&& visit) {
    const at::Tensor stored = testing::manifest_tensor(golden_, tensor);
    std::int64_t row = static_cast<std::int64_t>(slice) * rows_per_micro_batch_;
    const json& lengths =
        record_.at("generations").at(static_cast<std::size_t>(generation_.index)).at("completion_ids");
    for (auto& group : generation_.states[slice]) {
      for (AnswerState& state : group) {
        const auto length = static_cast<std::int64_t>(lengths.at(static_cast<std::size_t>(row)).size());
        visit(state, stored[row].narrow(0, 0, length).contiguous());
        ++row;
      }
    }
  }

  void check_logps(const json& tensor, std::size_t slice, std::vector<float> AnswerState::*member) {
    if (tensor.is_null()) return;
    for_each_answer(tensor, slice, [&](AnswerState& state, const at::Tensor& values) {
      REQUIRE(static_cast<std::int64_t>((state.*member).size()) == values.numel());
      for (std::size_t t = 0; t < (state.*member).size(); ++t)
        worst_logp_ = testing::worse_of(
            worst_logp_,
            static_cast<double>(std::abs((state.*member)[t] - values.const_data_ptr<float>()[t])));
    });
    CHECK(worst_logp_ <= tolerances_.at("logps").at("abs").get<double>());
  }

  void check_final_weights() {
    const SafetensorsFile stored(golden_ / section_.at("tensors_file").get<std::string>());
    double cosine_missing = 0, worst = 0;
    for (const json& name_entry : entry_.at("final_weights")) {
      const auto name = name_entry.get<std::string>();
      INFO(name);
      const at::Tensor expected = stored.tensor(entry_.at("final_prefix").get<std::string>() + name);
      const std::string hub = hub_tensor_name(name);
      const at::Tensor start = reference_.arena.export_parameter(hub),
                       got = model_.arena.export_parameter(hub);
      const at::Tensor update = (got - start).to(at::kDouble), wanted = (expected - start).to(at::kDouble);
      if (wanted.count_nonzero().item<std::int64_t>() == 0) {  // Without a gradient in every step.
        CHECK(at::equal(got, start));
        continue;
      }
      const double cosine = ((update * wanted).sum() / (update.norm() * wanted.norm())).item<double>();
      const double share = (got - expected).abs().max().item<double>() /
                           record_.at("per_tensor").at(name).at("max_update").get<double>();
      CHECK(cosine >= tolerances_.at("update_cosine").at("cosine_min").get<double>());
      CHECK(share <= tolerances_.at("final_weight_over_max_update").at("abs").get<double>());
      cosine_missing = testing::worse_of(cosine_missing, 1 - cosine);
      worst = testing::worse_of(worst, share);
    }
    testing::report_difference("GRPO run " + name_ + ": final weights, of the largest update", worst,
                               tolerances_.at("final_weight_over_max_update").at("abs"));
    testing::report_difference("GRPO run " + name_ + ": 1 - least cosine of an update", cosine_missing,
                               1 - tolerances_.at("update_cosine").at("cosine_min").get<double>());
  }

  const std::filesystem::path golden_;
  const std::string name_;
  const json section_, tolerances_, entry_, record_, args_;
  const std::filesystem::path folder_;
  Model model_, reference_;
  std::vector<std::unique_ptr<Communicator>> world_;
  GrpoStep step_;
  StepUpdater updater_;
  const SystemClock clock_;
  Generation generation_;
  std::int64_t rows_per_micro_batch_ = 0, accumulation_ = 0, iterations_ = 0, slices_ = 0;
  std::map<std::string, testing::Closest> closest_;
  double worst_logp_ = 0;
  bool pictures_ = false;  ///< In the optimizer step.
};

}  // namespace

TEST_CASE("group-packed GRPO steps agree with TRL's padded ones") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/e2e");
  const json section = testing::read_json(*golden / "manifest.json").at("grpo").at("e2e");
  std::size_t checked = 0;
  for (const auto& [name, entry] : section.at("variants").items()) {
    INFO(name);
    Variant(*golden, section, name).run();
    ++checked;
  }
  CHECK(checked == section.at("variants").size());
  CHECK(checked > 0);
}

}  // namespace ferro
