#include "trainer/policy_loss.h"

#include <cmath>
#include <set>

#include <catch2/catch.hpp>

#include "tests/trainer/loss_batches.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::LossBatch;

// Options of TRL whose value, where it is not the default, this table of losses has no column for.
bool supported(const json& cases, const json& one) {
  static const std::set<std::string> losses{"grpo", "bnpo", "dr_grpo", "dapo"};
  static const std::set<std::string> known{"loss_type",
                                           "importance_sampling_level",
                                           "beta",
                                           "epsilon",
                                           "epsilon_high",
                                           "use_bias_correction_kl",
                                           "max_completion_length",
                                           "mode",
                                           "steps_per_generation",
                                           "gradient_accumulation_steps"};
  if (one.at("trainer") != "GRPOTrainer" ||
      !losses.contains(one.at("config").at("loss_type").get<std::string>()))
    return false;
  for (const auto& [key, value] : one.at("config").items())
    if (!known.contains(key) && value != cases.at("defaults").at(key)) return false;
  for (const json& input : one.at("optional_inputs"))
    if (input != "old_logps" && input != "ref_logps" && input != "tool_mask") return false;
  return true;
}

struct Case {
  PolicyLossConfig config;
  LossNormaliser normaliser;
  double scale = 1;  // What the loss is multiplied by, where a normaliser is not whole.
};

Case case_of(const json& defaults, const json& one, std::int64_t rows) {
  json c = defaults;
  c.update(one.at("config"));
  Case out;
  out.config.loss_type = c.at("loss_type");
  out.config.importance_sampling_level = c.at("importance_sampling_level");
  out.config.epsilon = c.at("epsilon");
  out.config.epsilon_high =
      c.at("epsilon_high").is_null() ? c.at("epsilon").get<double>() : c.at("epsilon_high").get<double>();
  out.config.beta = c.at("beta");
  out.config.use_bias_correction_kl = c.at("use_bias_correction_kl");
  out.config.max_completion_length = c.at("max_completion_length");
  const bool training = c.at("mode") == "train";
  const std::int64_t accumulation = training ? c.at("gradient_accumulation_steps").get<std::int64_t>() : 1;
  out.normaliser = {.sequences_in_step = rows * accumulation,
                    .tokens_in_step = one.at("num_items_in_batch"),
                    .micro_batches = accumulation};
  // dapo: M * accumulation / steps_per_generation tokens belong to the step.
  if (training && out.config.loss_type == "dapo") {
    out.normaliser.tokens_in_step *= accumulation;
    out.scale = c.at("steps_per_generation").get<double>();
  }
  return out;
}

template <class Real>
void check_cases(const std::filesystem::path& golden, const json& section, const char* loss_tolerance,
                 const char* gradient_tolerance) {
  const json cases = testing::read_json(golden / section.at("cases_file").get<std::string>());
  const SafetensorsFile expected(golden / section.at("expected_file").get<std::string>());
  const json& tolerances = section.at("tolerances");
  std::set<std::string> names;
  for (const json& name : section.at("cases")) names.insert(name.get<std::string>());
  std::int64_t checked = 0, others = 0;
  double worst_loss = 0, worst_gradient = 0, worst_metric = 0;
  for (const json& one : cases.at("cases")) {
    const auto name = one.at("name").get<std::string>();
    if (!names.contains(name)) continue;
    if (!supported(cases, one)) {
      ++others;
      continue;
    }
    INFO(name);
    const LossBatch<Real> batch =
        testing::read_loss_batch<Real>(golden, section.at("batches").at(one.at("batch").get<std::string>()));
    const auto has = [&](const char* input) {
      const json& given = one.at("optional_inputs");
      return std::find(given.begin(), given.end(), input) != given.end();
    };
    const Case c = case_of(cases.at("defaults"), one, batch.rows);
    const std::vector<std::uint8_t> mask = has("tool_mask") ? batch.mask_with_tools() : batch.mask;
    const bool with_ref = has("ref_logps") && c.config.beta != 0;
    const auto result =
        policy_loss<Real>(c.config, batch.inputs(has("old_logps"), with_ref, mask), c.normaliser);
    const double stored = one.at("loss");
    CHECK(testing::slack(tolerances.at(loss_tolerance), result.loss * c.scale, stored) >= 0);
    worst_loss = std::max(worst_loss, std::abs(result.loss * c.scale - stored));

    const std::vector<double> gradient = testing::values_of<double>(expected.tensor(name + "/grad_logps"));
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      largest = std::max(largest, std::abs(gradient[i]));
      difference =
          std::max(difference, std::abs(gradient[i] - static_cast<double>(result.grad_logps[i]) * c.scale));
    }
    const double of_max = tolerances.at(gradient_tolerance).at("of_max");
    CHECK(difference <= of_max * largest);
    worst_gradient = std::max(worst_gradient, largest > 0 ? difference / largest : difference);
    for (const auto& [metric, value] : one.at("metrics").items()) {
      INFO(metric);
      const double got = testing::metric_value(result.sums, metric);
      if (value.is_null()) {
        CHECK(std::isnan(got));
      } else {
        const double stored_value = value;
        CHECK(testing::slack(tolerances.at("metrics"), got, stored_value) >= 0);
        worst_metric = std::max(worst_metric, std::abs(got - stored_value));
      }
    }
    ++checked;
  }
  std::cout << "golden policy loss: " << checked << " cases checked, " << others
            << " of loss types and options not in the table\n";
  testing::report_difference("loss", worst_loss, tolerances.at(loss_tolerance).value("abs", 0.0));
  testing::report_difference("gradient, of its largest value", worst_gradient,
                             tolerances.at(gradient_tolerance).at("of_max"));
  testing::report_difference("metrics", worst_metric, tolerances.at("metrics").value("abs", 0.0));
  CHECK(checked > 0);
}

}  // namespace

TEST_CASE("policy losses, gradients and metrics agree with TRL in fp64") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS(golden, "the golden folder");
  check_cases<double>(*golden, testing::read_json(*golden / "manifest.json").at("grpo").at("loss"),
                      "loss_in_fp64", "gradient_in_fp64_of_stored_fp32");
}

TEST_CASE("policy losses, gradients and metrics agree with TRL in fp32") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS(golden, "the golden folder");
  check_cases<float>(*golden, testing::read_json(*golden / "manifest.json").at("grpo").at("loss"), "loss",
                     "gradient");
}

TEST_CASE("the published trainer's loss is grpo on-policy with k3") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS(golden, "the golden folder");
  const json grpo = testing::read_json(*golden / "manifest.json").at("grpo");
  const json& section = grpo.at("unifer_loss");
  const json cases = testing::read_json(*golden / section.at("cases_file").get<std::string>());
  const SafetensorsFile expected(*golden / section.at("expected_file").get<std::string>());
  const json& tolerances = section.at("tolerances");
  for (const json& one : cases) {
    const auto name = one.at("name").get<std::string>();
    INFO(name);
    const auto batch = testing::read_loss_batch<double>(
        *golden, grpo.at("loss").at("batches").at(one.at("batch").get<std::string>()));
    PolicyLossConfig config;
    config.beta = one.at("beta");
    const auto result =
        policy_loss<double>(config, batch.inputs(false, true, batch.mask), {.sequences_in_step = batch.rows});
    CHECK(testing::slack(tolerances.at("loss_in_fp64"), result.loss, one.at("loss")) >= 0);
    const std::vector<double> gradient = testing::values_of<double>(expected.tensor(name + "/grad_logps"));
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      largest = std::max(largest, std::abs(gradient[i]));
      difference = std::max(difference, std::abs(gradient[i] - result.grad_logps[i]));
    }
    CHECK(difference <=
          tolerances.at("gradient_in_fp64_of_stored_fp32").at("of_max").get<double>() * largest);
  }
  CHECK(cases.size() == section.at("cases").size());
}

}  // namespace ferro
