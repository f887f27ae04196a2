#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "data/dataset_reader.h"
#include "launch/cli.h"
#include "launch/plugins.h"
#include "launch/stop_signals.h"

namespace ferro {
namespace {

struct InitOptions {
  ModelInitRequest request;
  std::vector<std::string> text_files;
  std::string max_shard_size = "5GB";
  bool keep_brightness = false, overwrite = false;
};

/// Every text of the files' rows that a model reads or writes.
std::vector<std::string> texts_of(const std::vector<std::string>& files) {
  std::vector<std::string> texts;
  for (const std::string& file : files) {
    const Dataset dataset =
        read_dataset(file, detect_row_kind(file), {.image_root = {}, .require_images = false});
    for (const Row& row : dataset.rows) {
      for (const std::string* text : {&row.question, &row.response, &row.solution})
        if (!text->empty()) texts.push_back(*text);
      texts.insert(texts.end(), row.candidate_labels.begin(), row.candidate_labels.end());
    }
  }
  return texts;
}

/// "5GB", "200MB", "160KB", "2GiB" or bytes.
std::uint64_t parse_size(const std::string& text) {
  struct Unit {
    const char* name;
    std::uint64_t bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},          {"KB", 1000},     {"MB", 1'000'000}, {"GB", 1'000'000'000},
                             {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  std::uint64_t count = 0, bytes = 0;
  const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (failure == std::errc{} && count > 0)
    for (const Unit& unit : kUnits)
      if (std::string_view(rest, text.data() + text.size()) == unit.name &&
          !__builtin_mul_overflow(count, unit.bytes, &bytes))
        return bytes;
  fail(ErrorCode::kUsage, "--max-shard-size takes a size such as 5GB, 200MB or 2GiB, not `{}`", text);
}

int init(const InitOptions& options) {
  ModelInitRequest request = options.request;
  if (std::filesystem::exists(request.out) && !options.overwrite)
    fail(ErrorCode::kUsage, "{} exists: name another folder, or add --overwrite", request.out.string());
  if (request.like.empty() && options.text_files.empty())
    fail(ErrorCode::kUsage,
         "give --tokenizer-text files for a preset, or --like with the config.json of a model");
  request.standardize = !options.keep_brightness;
  request.max_shard_bytes = parse_size(options.max_shard_size);
  request.texts = texts_of(options.text_files);
  const StopSignals signals;
  request.stop = signals.token();
  fmt::print("{}", runtime().init_model(request));
  return 0;
}

void add_weight_options(CLI::App& command, InitOptions& options) {
  ModelInitRequest& request = options.request;
  command.add_option("-o,--out", request.out, "Model folder to write.")->required();
  command.add_option("--seed", request.seed, "Key of the weights.")
      ->check(not_negative)
      ->capture_default_str();
  command.add_option("--dtype", request.dtype, "Of the weights in the file.")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command
      .add_option("--max-shard-size", options.max_shard_size,
                  "Larger weights are spread over files of this size.")
      ->capture_default_str();
  command.add_flag("--overwrite", options.overwrite, "Replace an existing folder.");
}

/// Options of a preset's shape, tokenizer and image processor.
void add_preset_options(CLI::App& command, InitOptions& options, CLI::Option* like) {
  ModelInitRequest& request = options.request;
  command.add_option("--preset", request.preset, "Architecture: tiny (a few million parameters).")
      ->check(CLI::IsMember({"tiny"}))
      ->capture_default_str()
      ->excludes(like);
  command
      .add_option("--tokenizer-text", options.text_files,
                  "Data files whose texts the tokenizer is learnt from.")
      ->excludes(like);
  command
      .add_option("--vocab-size", request.vocab_size,
                  "Tokens, special ones included; fewer when the texts hold fewer.")
      ->check(CLI::Range(300, 1'000'000))
      ->capture_default_str()
      ->excludes(like);
  command.add_option("--image-size", request.image_size, "Every image is resized to this square (pixels).")
      ->check(CLI::Range(16, 4096))
      ->capture_default_str()
      ->excludes(like);
  command.add_option("--patch", request.patch_size, "Side of a vision patch (pixels).")
      ->check(CLI::Range(2, 64))
      ->capture_default_str()
      ->excludes(like);
  command
      .add_flag("--keep-brightness", options.keep_brightness,
                "Do not bring each image to mean 0 and variance 1.")
      ->excludes(like);
}

void add_init(CLI::App& group, Action& action) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* command = group.add_subcommand(
      "init",
      "A fresh model as a Hugging Face folder: of a preset, with a tokenizer learnt from data files; or of "
      "any shape.");
  CLI::Option* like = command->add_option(
      "--like", options->request.like,
      "config.json whose shape is taken; tokenizer, template and processor files beside it are copied.");
  add_weight_options(*command, *options);
  add_preset_options(*command, *options, like);
  command->callback([&action, options] { action = [options] { return init(*options); }; });
}

void add_inspect(CLI::App& group, Action& action) {
  auto request = std::make_shared<InspectRequest>();
  CLI::App* command =
      group.add_subcommand("inspect",
                           "Architecture, parameters, bytes and work per token of a model folder, or of a "
                           "config.json alone; checks that the folder's files agree.");
  command->add_option("model", request->model, "Hugging Face model folder, or a config.json.")->required();
  command->add_flag("--tensors", request->all_tensors, "Also list every tensor.");
  command->add_flag("!--no-checksum", request->checksum, "Do not read the weights for their SHA-256.");
  command->callback([&action, request] {
    action = [request] {
      const InspectOutcome outcome = runtime().inspect_model(*request);
      fmt::print("{}", outcome.report);
      std::fflush(stdout);
      if (outcome.problems > 0)
        fail(ErrorCode::kData, "{}: {} problems, named above", request->model.string(), outcome.problems);
      return 0;
    };
  });
}

void add_merge(CLI::App& group, Action& action) {
  struct Options {
    MergeRequest request;
    bool overwrite = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = group.add_subcommand("merge", "Add a LoRA adapter into a model's weights.");
  command->add_option("model", options->request.model, "Hugging Face model folder.")->required();
  command->add_option("adapter", options->request.adapter, "PEFT folder, such as a run's adapter/.")
      ->required();
  command->add_option("-o,--out", options->request.out, "Model folder to write.")->required();
  command->add_flag("--overwrite", options->overwrite, "Replace an existing folder.");
  command->callback([&action, options] {
    action = [options] {
      const std::filesystem::path& out = options->request.out;
      if (std::filesystem::exists(out) && !options->overwrite)
        fail(ErrorCode::kUsage, "{} exists: name another folder, or add --overwrite", out.string());
      const std::string checksum = runtime().merge_adapter(options->request);
      fmt::print("{}: weights sha256 {}\n", out.string(), checksum);
      return 0;
    };
  });
}

}  // namespace

void add_model_commands(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("model", "Make and look at models.");
  group->require_subcommand(1);
  add_init(*group, action);
  add_inspect(*group, action);
  add_merge(*group, action);
}

}  // namespace ferro
