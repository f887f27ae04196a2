#include "trainer/policy_loss.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <catch2/catch.hpp>

#include "tests/trainer/loss_batches.h"
#include "trainer/policy_loss_terms.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::allowed_by;
using testing::Closest;
using testing::LossBatch;

// A setting of TRL that this table of losses has no column for must have its default value.
void check_known(const json& defaults, const json& config) {
  static const std::set<std::string> known{"loss_type",
                                           "importance_sampling_level",
                                           "beta",
                                           "epsilon",
                                           "epsilon_high",
                                           "delta",
                                           "use_bias_correction_kl",
                                           "top_entropy_quantile",
                                           "off_policy_mask_threshold",
                                           "entropy_coef",
                                           "sapo_temperature_pos",
                                           "sapo_temperature_neg",
                                           "vespo_k_pos",
                                           "vespo_lambda_pos",
                                           "vespo_k_neg",
                                           "vespo_lambda_neg",
                                           "max_completion_length",
                                           "use_vllm",
                                           "mode",
                                           "steps_per_generation",
                                           "gradient_accumulation_steps"};
  for (const auto& [key, value] : config.items()) {
    INFO(key << " " << value);
    CHECK((known.contains(key) || value == defaults.at(key)));
  }
}

struct Case {
  PolicyLossConfig config;
  LossNormaliser normaliser;
};

double number_or(const json& value, double otherwise) {
  return value.is_null() ? otherwise : value.get<double>();
}

Case case_of(const json& defaults, const json& one, std::int64_t rows) {
  check_known(defaults, one.at("config"));
  json c = defaults;
  c.update(one.at("config"));
  Case out;
  PolicyLossConfig& config = out.config;
  config.loss_type = c.at("loss_type");
  config.importance_sampling_level = c.at("importance_sampling_level");
  config.epsilon = c.at("epsilon");
  config.epsilon_high = number_or(c.at("epsilon_high"), config.epsilon);
  config.delta = number_or(c.at("delta"), 0);
  config.beta = c.at("beta");
  config.use_bias_correction_kl = c.at("use_bias_correction_kl");
  config.top_entropy_quantile = c.at("top_entropy_quantile");
  config.off_policy_mask_threshold = number_or(c.at("off_policy_mask_threshold"), 0);
  config.entropy_coef = c.at("entropy_coef");
  config.sapo_temperature_pos = c.at("sapo_temperature_pos");
  config.sapo_temperature_neg = c.at("sapo_temperature_neg");
  config.vespo_k_pos = c.at("vespo_k_pos");
  config.vespo_lambda_pos = c.at("vespo_lambda_pos");
  config.vespo_k_neg = c.at("vespo_k_neg");
  config.vespo_lambda_neg = c.at("vespo_lambda_neg");
  config.max_completion_length = c.at("max_completion_length");
  const bool training = c.at("mode") == "train";
  const bool rloo = one.at("trainer") == "RLOOTrainer";  // Its loss is not divided by the accumulation.
  const std::int64_t accumulation =
      training && !rloo ? c.at("gradient_accumulation_steps").get<std::int64_t>() : 1;
  const double share =
      training ? static_cast<double>(accumulation) / c.at("steps_per_generation").get<double>() : 1;
  out.normaliser = {.sequences_in_step = rows * accumulation,
                    .tokens_in_step = one.at("num_items_in_batch").get<double>() * share,
                    .micro_batches = accumulation};
  return out;
}

// TRL logs a micro-batch's policy_loss before it divides by the accumulation; losses over the step's tokens
// are not divided again.
template <class Real>
double metric_of(const Case& c, const PolicyLossResult<Real>& result, const std::string& name) {
  const bool over_step_tokens = find_loss_type(c.config.loss_type).average == Average::kStepTokens;
  const auto scale = over_step_tokens ? 1.0 : static_cast<double>(c.normaliser.micro_batches);
  if (name == "policy_loss") return (result.loss + result.entropy_bonus) * scale;
  return testing::metric_value(result.sums, name);
}

template <class Real>
void check_gradient(const at::Tensor& stored, const std::vector<Real>& got, double of_max, Closest& closest) {
  const std::vector<double> gradient = testing::values_of<double>(stored);
  REQUIRE(gradient.size() == got.size());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    largest = testing::worse_of(largest, std::abs(gradient[i]));
    difference = testing::worse_of(difference, std::abs(gradient[i] - static_cast<double>(got[i])));
  }
  CHECK(difference <= of_max * largest);
  closest.add("gradient", difference, of_max * largest);
}

template <class Real>
void check_metrics(const json& stored, const json& tolerance, const Case& c,
                   const PolicyLossResult<Real>& result, Closest& closest) {
  for (const auto& [metric, value] : stored.items()) {
    INFO(metric);
    const double got = metric_of(c, result, metric);
    if (value.is_null()) {
      CHECK(std::isnan(got));
      continue;
    }
    const double wanted = value;
    CHECK(testing::slack(tolerance, got, wanted) >= 0);
    closest.add(metric, std::abs(got - wanted), allowed_by(tolerance, wanted));
  }
}

template <class Real>
void check_cases(const std::filesystem::path& golden, const json& section, const char* loss_tolerance,
                 const char* gradient_tolerance) {
  const json cases = testing::read_json(golden / section.at("cases_file").get<std::string>());
  const SafetensorsFile expected(golden / section.at("expected_file").get<std::string>());
  const json& tolerances = section.at("tolerances");
  std::set<std::string> names;
  for (const json& name : section.at("cases")) names.insert(name.get<std::string>());
  std::size_t checked = 0;
  for (const json& one : cases.at("cases")) {
    const auto name = one.at("name").get<std::string>();
    if (!names.contains(name)) continue;
    INFO(name);
    Closest closest;
    const LossBatch<Real> batch =
        testing::read_loss_batch<Real>(golden, section.at("batches").at(one.at("batch").get<std::string>()));
    const Case c = case_of(cases.at("defaults"), one, batch.rows);
    auto with = one.at("optional_inputs").get<std::set<std::string>>();
    if (c.config.beta == 0) with.erase("ref_logps");
    const std::vector<std::uint8_t> mask = with.contains("tool_mask") ? batch.mask_with_tools() : batch.mask;
    const auto result = policy_loss<Real>(c.config, batch.inputs(with, mask), c.normaliser);
    CHECK(testing::slack(tolerances.at(loss_tolerance), result.loss, one.at("loss")) >= 0);
    closest.add("loss", std::abs(result.loss - one.at("loss").get<double>()),
                allowed_by(tolerances.at(loss_tolerance), one.at("loss")));
    const double of_max = tolerances.at(gradient_tolerance).at("of_max");
    check_gradient(expected.tensor(name + "/grad_logps"), result.grad_logps, of_max, closest);
    const bool with_entropies =
        std::find(section.at("with_grad_entropies").begin(), section.at("with_grad_entropies").end(), name) !=
        section.at("with_grad_entropies").end();
    CHECK(result.grad_entropies.empty() != with_entropies);
    if (with_entropies)
      check_gradient(expected.tensor(name + "/grad_entropies"), result.grad_entropies, of_max, closest);
    check_metrics(one.at("metrics"), tolerances.at("metrics"), c, result, closest);
    testing::report_difference("policy loss in " + std::string(sizeof(Real) == 8 ? "fp64 " : "fp32 ") + name +
                                   " " + c.config.loss_type + " " + one.at("batch").get<std::string>() +
                                   ": " + closest.what,
                               closest.difference, closest.allowed);
    ++checked;
  }
  CHECK(checked == section.at("cases").size());
}

}  // namespace

TEST_CASE("policy losses, gradients and metrics agree with TRL in fp64") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/loss");
  check_cases<double>(*golden, testing::read_json(*golden / "manifest.json").at("grpo").at("loss"),
                      "loss_in_fp64", "gradient_in_fp64_of_stored_fp32");
}

TEST_CASE("policy losses, gradients and metrics agree with TRL in fp32") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/loss");
  check_cases<float>(*golden, testing::read_json(*golden / "manifest.json").at("grpo").at("loss"), "loss",
                     "gradient");
}

namespace {

// The published trainer's kl is the mean over answers of their own means, so each is asked alone.
double mean_of_answer_kls(const PolicyLossConfig& config, const LossBatch<double>& batch) {
  double sum = 0;
  for (std::int64_t i = 0; i < batch.rows; ++i) {
    std::vector<std::uint8_t> own(batch.mask.size(), 0);
    for (std::int64_t t = i * batch.width; t < (i + 1) * batch.width; ++t)
      own[static_cast<std::size_t>(t)] = batch.mask[static_cast<std::size_t>(t)];
    const auto result =
        policy_loss<double>(config, batch.inputs({"ref_logps"}, own), {.sequences_in_step = 1});
    sum += testing::metric_value(result.sums, "kl");
  }
  return sum / static_cast<double>(batch.rows);
}

template <class Real>
void check_published_trainer(const std::filesystem::path& golden, const char* loss_tolerance,
                             const char* gradient_tolerance) {
  const json grpo = testing::read_json(golden / "manifest.json").at("grpo");
  const json& section = grpo.at("unifer_loss");
  const json cases = testing::read_json(golden / section.at("cases_file").get<std::string>());
  const SafetensorsFile expected(golden / section.at("expected_file").get<std::string>());
  const json& tolerances = section.at("tolerances");
  for (const json& one : cases) {
    const auto name = one.at("name").get<std::string>();
    INFO(name);
    Closest closest;
    const json& tensors = grpo.at("loss").at("batches").at(one.at("batch").get<std::string>());
    const auto batch = testing::read_loss_batch<Real>(golden, tensors);
    PolicyLossConfig config;
    config.beta = one.at("beta");
    const auto result =
        policy_loss<Real>(config, batch.inputs({"ref_logps"}, batch.mask), {.sequences_in_step = batch.rows});
    CHECK(testing::slack(tolerances.at(loss_tolerance), result.loss, one.at("loss")) >= 0);
    closest.add("loss", std::abs(result.loss - one.at("loss").get<double>()),
                allowed_by(tolerances.at(loss_tolerance), one.at("loss")));
    check_gradient(expected.tensor(name + "/grad_logps"), result.grad_logps,
                   tolerances.at(gradient_tolerance).at("of_max"), closest);
    testing::report_difference("published trainer's loss in " +
                                   std::string(sizeof(Real) == 8 ? "fp64 " : "fp32 ") + name + ": " +
                                   closest.what,
                               closest.difference, closest.allowed);
    CHECK(testing::slack(tolerances.at("metrics"),
                         mean_of_answer_kls(config, testing::read_loss_batch<double>(golden, tensors)),
                         one.at("metrics").at("kl")) >= 0);
  }
  CHECK(cases.size() == section.at("cases").size());
}

}  // namespace

TEST_CASE("the published trainer's loss is grpo on-policy with k3") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/unifer_loss");
  check_published_trainer<double>(*golden, "loss_in_fp64", "gradient_in_fp64_of_stored_fp32");
  check_published_trainer<float>(*golden, "loss", "gradient");
}

}  // namespace ferro
