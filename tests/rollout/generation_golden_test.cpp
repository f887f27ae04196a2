#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "data/positions.h"
#include "model/model_folder.h"
#include "model/safetensors.h"
#include "rollout/engine.h"
#include "rollout/sampler.h"
#include "tests/golden.h"
#include "tests/rollout/tiny_model.h"

namespace ferro {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// A tensor that the manifest names.
at::Tensor tensor_of(const fs::path& golden, const json& entry) {
  return SafetensorsFile(golden / entry.at("file").get<std::string>())
      .tensor(entry.at("tensor").get<std::string>())
      .clone();
}

std::vector<std::int64_t> integers_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).contiguous();
  return {flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel()};
}

/// Patch rows [N, patch_values]; stills are stored as one frame and repeat it.
at::Tensor pixels_of(const fs::path& golden, const json& inputs, const std::string& name,
                     const VisionConfig& vision) {
  if (inputs.contains(name)) return tensor_of(golden, inputs.at(name)).to(at::kFloat).contiguous();
  const at::Tensor frame = tensor_of(golden, inputs.at(name + "_one_frame")).to(at::kFloat);
  const std::vector<at::Tensor> frames(static_cast<std::size_t>(vision.temporal_patch_size), frame);
  return at::stack(frames, 2).reshape({frame.size(0), vision.patch_values()}).contiguous();
}

using Media = std::deque<std::shared_ptr<const ImageInput>>;

/// The images, or the videos, of a forward case in the order of their rows.
Media media_of(const fs::path& golden, const json& inputs, bool video, const ModelConfig& config) {
  Media media;
  const char* const grid_name = video ? "video_grid_thw" : "image_grid_thw";
  if (!inputs.contains(grid_name)) return media;
  const at::Tensor pixels =
      pixels_of(golden, inputs, video ? "pixel_values_videos" : "pixel_values", config.vision);
  const std::vector<std::int64_t> grids = integers_of(tensor_of(golden, inputs.at(grid_name)));
  const float* values = pixels.const_data_ptr<float>();
  for (std::size_t i = 0; 3 * i < grids.size(); ++i) {
    auto image = std::make_shared<ImageInput>();
    const auto side = [&](std::size_t axis) { return static_cast<std::int32_t>(grids[3 * i + axis]); };
    image->grid = {side(0), side(1), side(2)};
    image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
    image->video = video;
    if (video && inputs.contains("second_per_grid_ts"))
      image->second_per_grid =
          tensor_of(golden, inputs.at("second_per_grid_ts"))[static_cast<std::int64_t>(i)].item<double>();
    const float* end = values + image->grid.patches() * config.vision.patch_values();
    image->pixel_values.assign(values, end);
    values = end;
    media.push_back(std::move(image));
  }
  REQUIRE(values == pixels.const_data_ptr<float>() + pixels.numel());
  return media;
}

/// A sequence takes media, in order, as its runs of placeholders ask for them.
std::shared_ptr<const Prompt> prompt_of(std::vector<std::int32_t> ids, Media& images, Media& videos,
                                        const ModelConfig& config) {
  auto prompt = std::make_shared<Prompt>();
  prompt->ids = std::move(ids);
  for (std::size_t i = 0; i < prompt->ids.size();) {
    const bool image = prompt->ids[i] == config.image_token_id,
               video = prompt->ids[i] == config.video_token_id;
    if (!image && !video) {
      ++i;
      continue;
    }
    Media& media = image ? images : videos;
    REQUIRE_FALSE(media.empty());
    prompt->images.push_back(media.front());
    prompt->image_token_begin.push_back(static_cast<std::int32_t>(i));
    const std::int64_t merge = config.vision.spatial_merge_size;
    i += static_cast<std::size_t>(media.front()->grid.patches() / (merge * merge));
    media.pop_front();
  }
  // The set is made with transformers 5, whose rule for videos differs from the hub's.
  prompt->positions =
      mrope_positions(prompt->ids, prompt->images, config.vision_tokens(), PositionRule::kTransformers5);
  return prompt;
}

/// One prompt for each row of a forward case, padding dropped.
std::vector<std::shared_ptr<const Prompt>> prompts_of(const fs::path& golden, const json& forward_case,
                                                      const ModelConfig& config) {
  const json& inputs = forward_case.at("inputs");
  const at::Tensor ids = tensor_of(golden, inputs.at("input_ids"));
  const std::vector<std::int64_t> flat = integers_of(ids),
                                  mask = integers_of(tensor_of(golden, inputs.at("attention_mask")));
  Media images = media_of(golden, inputs, false, config), videos = media_of(golden, inputs, true, config);
  std::vector<std::shared_ptr<const Prompt>> prompts;
  const auto length = static_cast<std::size_t>(ids.size(1));
  for (std::size_t row = 0; row < static_cast<std::size_t>(ids.size(0)); ++row) {
    std::vector<std::int32_t> unpadded;
    for (std::size_t i = row * length; i < (row + 1) * length; ++i) {
      if (mask[i] != 0) unpadded.push_back(static_cast<std::int32_t>(flat[i]));
    }
    prompts.push_back(prompt_of(std::move(unpadded), images, videos, config));
  }
  REQUIRE((images.empty() && videos.empty()));
  return prompts;
}

RolloutRequest greedy_request(const json& entry, std::shared_ptr<const Prompt> prompt,
                              std::int64_t sample_id) {
  RolloutRequest request;
  request.sample_id = sample_id;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_completion_length = entry.at("max_new_tokens");
  if (!entry.at("suppress_tokens").is_null())
    request.sampling.banned_ids = entry.at("suppress_tokens").get<std::vector<std::int32_t>>();
  if (!entry.at("eos_token_ids").is_null())
    request.sampling.stop_ids = entry.at("eos_token_ids").get<std::vector<std::int32_t>>();
  return request;
}

std::map<std::int64_t, std::vector<std::int32_t>> answers_of(RolloutEngine& engine) {
  std::map<std::int64_t, std::vector<std::int32_t>> answers;
  while (const auto group = engine.receive())
    answers[group->request.sample_id] = group->completions.at(0).token_ids;
  return answers;
}

/// Tokens that differ. Rows that ended early are filled with the padding id, as generate() returns them.
int differing_tokens(std::vector<std::int32_t> answer, const json& expected, const json& entry) {
  const auto tokens = expected.get<std::vector<std::int32_t>>();
  REQUIRE(answer.size() <= tokens.size());
  answer.resize(tokens.size(), entry.at("pad_token_id").get<std::int32_t>());
  CHECK(answer == tokens);
  int differing = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) differing += answer[i] != tokens[i] ? 1 : 0;
  return differing;
}

std::size_t count_of(const json& rows) {
  std::size_t count = 0;
  for (const json& row : rows) count += row.size();
  return count;
}

/// generate()'s settings of a case. One that this sampler has not is not passed over.
SamplingParams sampling_of(const json& settings) {
  SamplingParams params;
  for (const auto& [key, value] : settings.items()) {
    if (key == "temperature") {
      params.temperature = value;
    } else if (key == "top_k") {
      params.top_k = value;
    } else if (key == "top_p") {
      params.top_p = value;
    } else if (key == "min_p") {
      params.min_p = value;
    } else if (key == "repetition_penalty") {
      params.repetition_penalty = value;
    } else {
      FAIL_CHECK(key << " is no setting of this sampler");
    }
  }
  return params;
}

}  // namespace

TEST_CASE("greedy answers are generate()'s, token by token, from every checkpoint") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/greedy");
  const json manifest = testing::read_json(*golden / "manifest.json");
  const json& greedy = manifest.at("generation").at("greedy");
  const json expected = testing::read_json(*golden / greedy.at("file").get<std::string>());
  for (const json& checkpoint : manifest.at("model").at("checkpoints")) {
    const Model model = load_model(*golden / checkpoint.at("path").get<std::string>(), false);
    RolloutEngine engine(model, testing::tiny_tokenizer(), {});
    for (const auto& [name, entry] : greedy.at("cases").items()) {
      INFO(name);
      const auto prompts = prompts_of(
          *golden, manifest.at("forward").at("cases").at(entry.at("forward_case").get<std::string>()),
          model.config);
      REQUIRE(prompts.size() == entry.at("rows").get<std::size_t>());
      for (std::size_t row = 0; row < prompts.size(); ++row)
        engine.submit(greedy_request(entry, prompts[row], static_cast<std::int64_t>(row)));
      const auto answers = answers_of(engine);
      const json& tokens = expected.at(name).at("new_tokens");
      REQUIRE(answers.size() == tokens.size());
      int differing = 0;
      for (std::size_t row = 0; row < tokens.size(); ++row)
        differing += differing_tokens(answers.at(static_cast<std::int64_t>(row)), tokens[row], entry);
      testing::report_equality("greedy tokens of " + name + ", " + checkpoint.at("path").get<std::string>(),
                               count_of(tokens), static_cast<std::size_t>(differing));
    }
  }
}

TEST_CASE("all greedy cases at once give what each gives alone") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/greedy");
  const json manifest = testing::read_json(*golden / "manifest.json");
  const json& greedy = manifest.at("generation").at("greedy");
  const json expected = testing::read_json(*golden / greedy.at("file").get<std::string>());
  const Model model =
      load_model(*golden / manifest.at("model").at("checkpoints").at(0).at("path").get<std::string>(), false);
  RolloutEngine engine(model, testing::tiny_tokenizer(), {.max_running_sequences = 4, .prefill_tokens = 100});
  std::int64_t id = 0;
  for (const auto& [name, entry] : greedy.at("cases").items()) {
    for (const auto& prompt : prompts_of(
             *golden, manifest.at("forward").at("cases").at(entry.at("forward_case").get<std::string>()),
             model.config))
      engine.submit(greedy_request(entry, prompt, id++));
  }
  const auto answers = answers_of(engine);
  id = 0;
  for (const auto& [name, entry] : greedy.at("cases").items()) {
    INFO(name);
    int differing = 0;
    const json& rows = expected.at(name).at("new_tokens");
    for (const json& tokens : rows) differing += differing_tokens(answers.at(id++), tokens, entry);
    CHECK(differing == 0);
    testing::report_equality("greedy tokens of " + name + ", all cases in one batch", count_of(rows),
                             static_cast<std::size_t>(differing));
  }
}

TEST_CASE("the logits of each decoding step through the cache are generate()'s") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/step_logits");
  const json manifest = testing::read_json(*golden / "manifest.json");
  const json& generation = manifest.at("generation");
  const json& steps = generation.at("step_logits");
  const json& entry = generation.at("greedy").at("cases").at(steps.at("greedy_case").get<std::string>());
  const at::Tensor expected = tensor_of(*golden, steps.at("logits"));
  const double tolerance =
      generation.at("tolerances").at(steps.at("logits").at("tolerance").get<std::string>()).at("abs");
  const Model model =
      load_model(*golden / manifest.at("model").at("checkpoints").at(0).at("path").get<std::string>(), false);
  const auto prompts =
      prompts_of(*golden, manifest.at("forward").at("cases").at(steps.at("forward_case").get<std::string>()),
                 model.config);
  RolloutEngine engine(model, testing::tiny_tokenizer(), {});
  double worst = 0;
  std::int64_t step = 0;
  engine.set_logits_sink([&](std::int64_t, std::int32_t, std::span<const float> logits) {
    const at::Tensor row = expected[step++];
    REQUIRE(row.numel() == static_cast<std::int64_t>(logits.size()));
    const float* values = row.const_data_ptr<float>();
    for (std::size_t i = 0; i < logits.size(); ++i)
      worst =
          testing::worse_of(worst, std::abs(static_cast<double>(logits[i]) - static_cast<double>(values[i])));
  });
  engine.submit(greedy_request(entry, prompts.at(0), 0));
  const auto answers = answers_of(engine);
  CHECK(step == expected.size(0));
  CHECK(worst <= tolerance);
  const std::vector<std::int64_t> tokens = integers_of(tensor_of(*golden, steps.at("new_tokens")));
  const bool same = std::equal(tokens.begin(), tokens.end(), answers.at(0).begin(), answers.at(0).end());
  CHECK(same);
  testing::report_equality("tokens of the steps through the cache", tokens.size(), same ? 0 : tokens.size());
  testing::report_difference("step logits through the cache", worst, tolerance);
}

TEST_CASE("probabilities after the processors are generate()'s") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/generation/sampling");
  const json generation = testing::read_json(*golden / "manifest.json").at("generation");
  const json& sampling = generation.at("sampling");
  const at::Tensor logits = tensor_of(*golden, sampling.at("logits")).contiguous();
  const std::vector<std::int64_t> prompt_ids = integers_of(tensor_of(*golden, sampling.at("prompt_ids")));
  const auto rows = static_cast<std::size_t>(logits.size(0)),
             vocabulary = static_cast<std::size_t>(logits.size(1));
  const std::size_t prompt_length = prompt_ids.size() / rows;
  for (const auto& [name, entry] : sampling.at("cases").items()) {
    const SamplingParams params = sampling_of(entry.at("settings"));
    const at::Tensor expected = tensor_of(*golden, entry.at("probs")).contiguous();
    const double tolerance =
        generation.at("tolerances").at(entry.at("probs").at("tolerance").get<std::string>()).at("abs");
    double worst = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      std::vector<std::int32_t> previous;
      for (std::size_t i = 0; i < prompt_length; ++i)
        previous.push_back(static_cast<std::int32_t>(prompt_ids[row * prompt_length + i]));
      const std::vector<float> ours = sampling_probabilities(
          {logits.const_data_ptr<float>() + row * vocabulary, vocabulary}, params, previous);
      const float* theirs = expected.const_data_ptr<float>() + row * vocabulary;
      for (std::size_t i = 0; i < vocabulary; ++i) {
        if (std::max(ours[i], theirs[i]) > 1e-20F) CHECK((ours[i] == 0) == (theirs[i] == 0));
        worst =
            testing::worse_of(worst, std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i])));
      }
    }
    CHECK(worst <= tolerance);
    testing::report_difference("sampling probabilities " + name, worst, tolerance);
  }
}

}  // namespace ferro
