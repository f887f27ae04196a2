#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "data/utf8.h"
#include "launch/asking_options.h"
#include "launch/cli.h"
#include "launch/parse_options.h"
#include "launch/plugins.h"
#include "launch/token_lines.h"

namespace ferro {
namespace {

struct QuestionOptions {
  AskingOptions asking;
  std::vector<std::string> images, video_frames;
  std::optional<std::string> prompt;
  double frames_per_second = 2.0;
  bool raw = false, logprobs = false, ids = false;
};

struct GenerateOptions : QuestionOptions {
  GenerateRequest request;
};

struct ScoreOptions : QuestionOptions {
  double temperature = 1.0;
  std::vector<std::string> responses, token_ids;
};

/// CLI::Range lets NaN through: no comparison with it holds.
CLI::Validator number_in(double low, double high) {
  return CLI::Validator(
      [low, high](const std::string& text) {
        double value = 0;
        const bool number = CLI::detail::lexical_cast(text, value);
        return number && value >= low && value <= high
                   ? std::string()
                   : fmt::format("`{}` is not a number from {:g} to {:g}", text, low, high);
      },
      fmt::format("FLOAT in [{:g} - {:g}]", low, high));
}

void add_question_options(CLI::App& command, QuestionOptions& options) {
  add_asking_options(command, options.asking);
  command.add_option("-i,--image", options.images, "Image that the question is about. Repeatable, in order.")
      ->allow_extra_args(false);
  command
      .add_option("--video", options.video_frames,
                  "Frames of a video, image files in order; it comes after the images.")
      ->expected(1, CLI::detail::expected_max_vector_size);
  command.add_option("--fps", options.frames_per_second, "Frames of --video per second.")
      ->check(number_in(0.001, 1000))
      ->capture_default_str();
  command.add_option("-p,--prompt", options.prompt, "The question.");
  command.add_flag(
      "--raw", options.raw,
      "The prompt is all that the model reads, one placeholder for each image: no chat template.");
  command.add_flag("--logprobs", options.logprobs,
                   "Print one line per token: index, id, log-prob as hex float, text, bytes in hex.");
}

void require_text(const char* option, const std::string& text) {
  if (!is_valid_utf8(text)) fail(ErrorCode::kUsage, "{} is not valid UTF-8", option);
}

std::vector<std::filesystem::path> existing(const char* what, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (!std::filesystem::exists(name)) fail(ErrorCode::kIo, "{} `{}` does not exist", what, name);
  return {names.begin(), names.end()};
}

Asking asked_as(const QuestionOptions& options) {
  return resolve_asking(options.asking, !options.images.empty() || !options.video_frames.empty());
}

/// A question on the command line is the one meant, before the configuration's.
Question question_of(const QuestionOptions& options, const Asking& asking) {
  Question question;
  question.text = options.prompt.value_or(asking.data.question);
  if (question.text.empty() && !options.prompt) fail(ErrorCode::kUsage, "no question: give --prompt");
  if (question.text.empty() && options.raw)
    fail(ErrorCode::kUsage,
         "the prompt is empty: with --raw nothing is put around it, and a model needs a token");
  require_text("the question", question.text);
  question.images = existing("image", options.images);
  question.video_frames = existing("video frame", options.video_frames);
  question.frames_per_second = options.frames_per_second;
  question.rendered = options.raw;
  return question;
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

int generate(const GenerateOptions& options) {
  GenerateRequest request = options.request;
  request.asking = asked_as(options);
  request.question = question_of(options, request.asking);
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
  if (ids.empty()) fail(ErrorCode::kUsage, "--ids `{}` names no token", text);
  return ids;
}

int score(const ScoreOptions& options) {
  ScoreRequestOnTexts request;
  request.temperature = options.temperature;
  request.responses = options.responses;
  for (const std::string& response : options.responses) require_text("--response", response);
  for (const std::string& ids : options.token_ids) request.ids.push_back(parse_ids(ids));
  if (request.responses.empty() && request.ids.empty())
    fail(ErrorCode::kUsage, "nothing to score: give --response or --ids");
  request.asking = asked_as(options);
  request.question = question_of(options, request.asking);
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
      ->check(number_in(0, 100))
      ->capture_default_str();
  command->add_option("--top-p", request.top_p, "Nucleus sampling.")
      ->check(number_in(0, 1))
      ->capture_default_str();
  command->add_option("--top-k", request.top_k, "Sample from the k likeliest; 0: all.")
      ->check(CLI::Range(std::int64_t{0}, kMaxOptionCount))
      ->capture_default_str();
  command->add_option("--min-p", request.min_p, "Least probability as a share of the largest.")
      ->check(number_in(0, 1))
      ->capture_default_str();
  command->add_option("-n,--max-new-tokens", request.max_new_tokens, "Longest answer.")
      ->check(CLI::Range(std::int64_t{1}, kMaxAnswerTokens))
      ->capture_default_str();
  command->add_option("--seed", request.seed, "Key of the sampling.")
      ->check(not_negative)
      ->capture_default_str();
  command->add_option("-g,--num-generations", request.num_generations, "Answers to the same question.")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  command
      ->add_flag("--ids", options->ids,
                 "Print each answer's token ids on a line, as `ferro score --ids` takes them.")
      ->excludes(command->get_option("--logprobs"));
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
      ->check(number_in(0, 100))
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
