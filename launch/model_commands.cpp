#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/error.h"
#include "data/dataset_reader.h"
#include "launch/cli.h"
#include "launch/plugins.h"

namespace ferro {
namespace {

struct InitOptions {
  ModelInitRequest request;
  std::vector<std::string> text_files;
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

int init(const InitOptions& options) {
  ModelInitRequest request = options.request;
  if (std::filesystem::exists(request.out) && !options.overwrite)
    fail(ErrorCode::kUsage, "{} exists: name another folder, or add --overwrite", request.out.string());
  request.standardize = !options.keep_brightness;
  request.texts = texts_of(options.text_files);
  fmt::print("{}", runtime().init_model(request));
  return 0;
}

void add_init(CLI::App& group, Action& action) {
  auto options = std::make_shared<InitOptions>();
  ModelInitRequest& request = options->request;
  CLI::App* command = group.add_subcommand(
      "init",
      "A fresh model: learns a tokenizer from data files, draws weights, writes a Hugging Face folder.");
  command->add_option("--preset", request.preset, "Architecture: tiny (a few million parameters).")
      ->capture_default_str();
  command
      ->add_option("--tokenizer-text", options->text_files,
                   "Data files whose texts the tokenizer is learnt from.")
      ->required();
  command
      ->add_option("--vocab-size", request.vocab_size,
                   "Tokens, special ones included; fewer when the texts hold fewer.")
      ->check(CLI::Range(300, 1'000'000))
      ->capture_default_str();
  command->add_option("-o,--out", request.out, "Model folder to write.")->required();
  command->add_option("--seed", request.seed, "Key of the weights.")->capture_default_str();
  command->add_option("--image-size", request.image_size, "Every image is resized to this square (pixels).")
      ->check(CLI::Range(16, 4096))
      ->capture_default_str();
  command->add_option("--patch", request.patch_size, "Side of a vision patch (pixels).")
      ->check(CLI::Range(2, 64))
      ->capture_default_str();
  command->add_flag("--keep-brightness", options->keep_brightness,
                    "Do not bring each image to mean 0 and variance 1.");
  command->add_flag("--overwrite", options->overwrite, "Replace an existing folder.");
  command->callback([&action, options] { action = [options] { return init(*options); }; });
}

void add_inspect(CLI::App& group, Action& action) {
  struct Options {
    std::string folder;
    bool tensors = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = group.add_subcommand(
      "inspect", "Read a model folder whole, and print its architecture, sizes and checksum.");
  command->add_option("folder", options->folder, "Hugging Face model folder.")->required();
  command->add_flag("--tensors", options->tensors, "Also list every tensor.");
  command->callback([&action, options] {
    action = [options] {
      fmt::print("{}", runtime().inspect_model(options->folder, options->tensors));
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
}

}  // namespace ferro
