#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/config.h"
#include "core/error.h"
#include "data/image_processor_config.h"
#include "launch/cli.h"
#include "launch/config_kinds.h"
#include "launch/parse_options.h"
#include "launch/plugins.h"
#include "model/config.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kTextTokens = 128;

struct PlanOptions {
  std::string config, model;
  std::vector<std::string> overrides;
  std::int64_t prompt_tokens = 0, image_tokens = -1, answer_tokens = 0, world_size = 1;
};

/// Tokens of the largest image that the model's processor lets through; 256 without a processor.
std::int64_t largest_image(const fs::path& folder) {
  const std::optional<FoundImageProcessor> found = find_image_processor(folder);
  if (!found) return 256;
  const ImageProcessorConfig& images = found->config;
  const std::int64_t side = std::int64_t{images.patch_size} * images.merge_size;
  const std::int64_t pixels =
      images.forced_size > 0 ? std::int64_t{images.forced_size} * images.forced_size : images.max_pixels;
  return std::max<std::int64_t>(1, pixels / (side * side));
}

RowShape row_shape(const PlanOptions& options, const fs::path& folder, const DataConfig& data,
                   std::int64_t longest_answer) {
  RowShape rows;
  rows.image =
      options.image_tokens >= 0
          ? options.image_tokens
          : std::min(largest_image(folder), std::max<std::int64_t>(0, data.max_prompt_length - kTextTokens));
  rows.prompt = options.prompt_tokens > 0 ? options.prompt_tokens : rows.image + kTextTokens;
  rows.answer = options.answer_tokens > 0 ? options.answer_tokens : longest_answer;
  if (rows.image >= rows.prompt)
    fail(ErrorCode::kUsage, "--image-tokens {} leave no room for text in --prompt-tokens {}", rows.image,
         rows.prompt);
  return rows;
}

int plan(const PlanOptions& options) {
  PlanRequest request;
  request.world_size = options.world_size;
  const auto settle = [&](const auto& config, std::int64_t longest_answer) {
    const fs::path given = options.model.empty() ? config.model_name_or_path : options.model;
    request.config_json = fs::is_directory(given) ? given / "config.json" : given;
    request.rows = row_shape(options, request.config_json.parent_path(), config.data, longest_answer);
    request.job = config;
  };
  if (detect_config_kind(options.config) == ConfigKind::kGrpo) {
    const auto config = load_config<GrpoConfig>(options.config, options.overrides);
    settle(config, config.max_completion_length);
  } else {
    const auto config = load_config<SftConfig>(options.config, options.overrides);
    settle(config, config.max_new_tokens);
  }
  fmt::print("{}", runtime().plan(request));
  return 0;
}

}  // namespace

void add_plan_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "Bytes that a training run would take, by part, and its peak. Nothing is loaded or allocated.");
  command->add_option("-c,--config", options->config, "Training configuration.")->required();
  command->add_option(
      "-m,--model", options->model,
      "Model folder or a config.json alone, instead of the configuration's model_name_or_path.");
  command->add_option("--set", options->overrides, "Set one key over the file. Repeatable.")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command
      ->add_option(
          "--image-tokens", options->image_tokens,
          "Image tokens of a prompt; else of the largest image that the model's processor lets through.")
      ->check(CLI::Range(std::int64_t{0}, kMaxOptionCount));
  command
      ->add_option("--prompt-tokens", options->prompt_tokens,
                   "Tokens of a prompt, image included; else those of the image and 128.")
      ->check(CLI::Range(std::int64_t{1}, kMaxOptionCount));
  command
      ->add_option("--answer-tokens", options->answer_tokens,
                   "Tokens of an answer; else the longest that the configuration allows.")
      ->check(CLI::Range(std::int64_t{1}, kMaxOptionCount));
  command->add_option("--world-size", options->world_size, "Processes.")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}))
      ->capture_default_str();
  command->callback([&action, options] { action = [options] { return plan(*options); }; });
}

}  // namespace ferro
