#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "launch/asking_options.h"
#include "launch/cli.h"
#include "launch/plugins.h"
#include "launch/token_lines.h"

namespace ferro {
namespace {

struct QuestionOptions {
  AskingOptions asking;
  std::string image, prompt;
  bool logprobs = false, ids = false;
};

struct GenerateOptions : QuestionOptions {
  GenerateRequest request;
};

struct ScoreOptions : QuestionOptions {
  double temperature = 1.0;
  std::vector<std::string> responses, token_ids;
};

void add_question_options(CLI::App& command, QuestionOptions& options) {
  add_asking_options(command, options.asking);
  command.add_option("-i,--image", options.image, "Image that the question is about.");
  command.add_option("-p,--prompt", options.prompt, "The question.");
  command.add_flag("--logprobs", options.logprobs,
                   "Print one line per token: index, id, log-prob as hex float, bytes.");
}

Row asked_row(const QuestionOptions& options) {
  if (options.prompt.empty() && options.asking.question.empty() && options.asking.config.empty())
    fail(ErrorCode::kUsage, "no question: give --prompt");
  if (!options.image.empty() && !std::filesystem::exists(options.image))
    fail(ErrorCode::kIo, "image `{}` does not exist", options.image);
  Row row;
  row.image_path = options.image;
  row.question = options.prompt;
  return row;
}

Asking asked_as(const QuestionOptions& options) {
  Asking asking = resolve_asking(options.asking, !options.image.empty());
  // A question on the command line is the one meant.
  if (!options.prompt.empty()) asking.data.question.clear();
  return asking;
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int generate(const GenerateOptions& options) {
  GenerateRequest request = options.request;
  request.row = asked_row(options);
  request.asking = asked_as(options);
  const bool stream = !options.logprobs && !options.ids && request.num_generations == 1;
  if (stream) {
    request.on_text = [](std::string_view text) {
      print(text);
      std::fflush(stdout);
    };
  }
  const std::vector<Answer> answers = runtime().generate(request);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (options.logprobs) {
      print(token_lines(i, answers[i]));
    } else if (options.ids) {
      print(id_line(answers[i]) + "\n");
    } else if (stream) {
      print("\n");
    } else {
      print("# answer " + std::to_string(i) + "\n" + answers[i].text + "\n");
    }
  }
  return 0;
}

std::vector<std::int32_t> parse_ids(const std::string& text) {
  std::vector<std::int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    std::int32_t id = 0;
    const auto [stopped, failure] = std::from_chars(at, end, id);
    if (failure != std::errc{} || id < 0)
      fail(ErrorCode::kUsage, "--ids takes token ids such as \"12 7 3\", not `{}`", text);
    ids.push_back(id);
    at = stopped;
  }
  return ids;
}

int score(const ScoreOptions& options) {
  ScoreRequestOnTexts request;
  request.row = asked_row(options);
  request.temperature = options.temperature;
  request.responses = options.responses;
  for (const std::string& ids : options.token_ids) request.ids.push_back(parse_ids(ids));
  if (request.responses.empty() && request.ids.empty())
    fail(ErrorCode::kUsage, "nothing to score: give --response or --ids");
  request.asking = asked_as(options);
  const std::vector<Answer> answers = runtime().score(request);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (options.logprobs) {
      print(token_lines(i, answers[i]));
      continue;
    }
    double sum = 0;
    for (const AnswerToken& token : answers[i].tokens) sum += static_cast<double>(token.logprob);
    print(fmt::format("answer {}: {} tokens, log-prob {:.6f}\n", i, answers[i].tokens.size(), sum));
  }
  return 0;
}

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Ask a model and print its answer as it is written.");
  add_question_options(*command, *options);
  GenerateRequest& request = options->request;
  command->add_option("-t,--temperature", request.temperature, "0: the likeliest token each time.")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-p", request.top_p, "Nucleus sampling.")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--top-k", request.top_k, "Sample from the k likeliest; 0: all.")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--min-p", request.min_p, "Least probability as a share of the largest.")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("-n,--max-new-tokens", request.max_new_tokens, "Longest answer.")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", request.seed, "Key of the sampling.")->capture_default_str();
  command->add_option("-g,--num-generations", request.num_generations, "Answers to the same question.")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--ids", options->ids,
                    "Print each answer's token ids on a line, as `ferro score --ids` takes them.");
  command->callback([&action, options] { action = [options] { return generate(*options); }; });
}

void add_score(CLI::App& app, Action& action) {
  auto options = std::make_shared<ScoreOptions>();
  CLI::App* command =
      app.add_subcommand("score", "Log-probs that the trainer's forward pass gives to answers you name.");
  add_question_options(*command, *options);
  command
      ->add_option("-t,--temperature", options->temperature,
                   "Log-probs are of logits / temperature; 0 counts as 1.")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command
      ->add_option("-r,--response", options->responses,
                   "Text to score, the end-of-turn token after it. Repeatable.")
      ->allow_extra_args(false);
  command
      ->add_option("--ids", options->token_ids,
                   "Token ids to score, as `ferro generate --ids` prints them. Repeatable.")
      ->allow_extra_args(false);
  command->callback([&action, options] { action = [options] { return score(*options); }; });
}

}  // namespace

void add_ask_commands(CLI::App& app, Action& action) {
  add_generate(app, action);
  add_score(app, action);
}

}  // namespace ferro
