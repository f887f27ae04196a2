#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/augment_config.h"
#include "data/faces/face_dataset.h"
#include "data/image_input.h"
#include "data/image_processor_config.h"
#include "data/row.h"
#include "reward/classification_metrics.h"
#include "trainer/memory_plan.h"
#include "trainer/train.h"

// What the program `ferro` asks of its shared libraries. libferro_runtime.so links LibTorch,
// libferro_pictures.so OpenCV and libferro_services.so gRPC: loading one costs more than `ferro --help` may
// take, and in one translation unit their headers do not get along. Plain data goes in, plain data comes out.

namespace ferro {

using ImageLoaderFactory = std::function<std::unique_ptr<ImageLoader>(
    const ImageProcessorConfig&, const AugmentConfig&, std::size_t cache_entries)>;

/// No answer may be longer: the cache that holds it is allocated before the first token.
constexpr std::int64_t kMaxAnswerTokens = std::int64_t{1} << 20;

/// How a model is asked: its folder, and how a row becomes a prompt (of `data`, what concerns single rows).
struct Asking {
  std::filesystem::path model;
  std::filesystem::path adapter;  ///< PEFT folder on top of it; empty: none.
  DataConfig data;
  ImageLoaderFactory make_loader;  ///< Empty: questions without images.
};

/// One answered row of an evaluation.
struct Prediction {
  std::int64_t id = 0;
  std::string image_path, truth, predicted, response;
};

struct EvalRequest {
  Asking asking;
  std::vector<Row> rows;
  std::int64_t max_new_tokens = 256;
  std::int64_t batch_rows = 128;
  std::string dataset;  ///< Names the synonym table.
};

struct EvalOutcome {
  ClassificationReport report;
  std::vector<Prediction> predictions;
  std::int64_t set_aside = 0;
  double mean_completion_length = 0, format_rate = 0;
};

/// One question to a model.
struct Question {
  std::string text;
  std::vector<std::filesystem::path> images;        ///< Before the text, in order.
  std::vector<std::filesystem::path> video_frames;  ///< One video, after the images.
  double frames_per_second = 2.0;
  bool rendered = false;  ///< `text` is all that the model reads, placeholders included: no chat template.
};

struct GenerateRequest {
  Asking asking;
  Question question;
  double temperature = 0.0, top_p = 1.0, min_p = 0.0;
  std::int64_t top_k = 0;
  std::int64_t max_new_tokens = 256;
  std::uint64_t seed = 0;
  std::int32_t num_generations = 1;
  /// Whole characters of the first answer, as soon as they are known. May be empty.
  std::function<void(std::string_view)> on_text;
};

struct ScoreRequestOnTexts {
  Asking asking;
  Question question;
  double temperature = 1.0;
  std::vector<std::string> responses;          ///< Encoded, the end-of-turn token after each.
  std::vector<std::vector<std::int32_t>> ids;  ///< Given token by token; used after the responses.
};

struct AnswerToken {
  std::int32_t id = 0;
  float logprob = 0;
  std::string bytes;  ///< The token's own bytes.
};

struct Answer {
  std::vector<AnswerToken> tokens;
  std::string text;    ///< Special tokens skipped.
  std::string finish;  ///< "stop", "length", "given".
};

struct ModelInitRequest {
  std::string preset = "tiny";
  std::filesystem::path like;  ///< A config.json whose shape is taken instead, with the files beside it.
  std::string dtype = "float32";
  std::uint64_t max_shard_bytes = 5'000'000'000;
  std::stop_token stop;
  std::vector<std::string> texts;  ///< What the tokenizer is learnt from.
  std::int64_t vocab_size = 1024;
  std::filesystem::path out;
  std::uint64_t seed = 0;
  std::int32_t image_size = 48;  ///< Every image is resized to this square.
  std::int32_t patch_size = 12;
  bool standardize = true;  ///< Each image to mean 0, variance 1.
};

struct InspectRequest {
  std::filesystem::path model;  ///< Folder or config.json.
  bool all_tensors = false, checksum = true;
};

struct InspectOutcome {
  std::string report;         ///< For people.
  std::int64_t problems = 0;  ///< Files that do not belong together; the report names them.
};

struct PlanRequest {
  std::filesystem::path config_json;
  std::variant<SftConfig, GrpoConfig> job;
  RowShape rows;
  std::int64_t world_size = 1;
};

struct MergeRequest {
  std::filesystem::path model, adapter, out;
};

/// Entry points of libferro_runtime.so. All throw Error.
struct RuntimeTable {
  const char* version;
  void (*train_sft)(const SftConfig&, const TrainEnvironment&);
  void (*train_grpo)(const GrpoConfig&, const TrainEnvironment&);
  EvalOutcome (*evaluate)(const EvalRequest&);
  std::vector<Answer> (*generate)(const GenerateRequest&);
  std::vector<Answer> (*score)(const ScoreRequestOnTexts&);
  std::string (*init_model)(const ModelInitRequest&);  ///< Returns a report on the new folder.
  /// On a model folder or a config.json alone: architecture, sizes, work, the weights' SHA-256.
  InspectOutcome (*inspect_model)(const InspectRequest&);
  std::string (*plan)(const PlanRequest&);            ///< describe_plan's table.
  std::string (*merge_adapter)(const MergeRequest&);  ///< Returns the merged weights' SHA-256.
};

/// Entry points of libferro_services.so, which links gRPC. All throw Error.
struct ServiceTable {
  const char* version;
  /// make_reward_client, with a log on standard error.
  std::unique_ptr<Scorer> (*make_remote_scorer)(const RewardClientConfig&,
                                                const std::vector<std::string>& functions, std::stop_token,
                                                Clock&);
};

/// Entry points of libferro_pictures.so. All throw Error.
struct PictureTable {
  const char* version;
  std::unique_ptr<ImageLoader> (*make_loader)(const ImageProcessorConfig&, const AugmentConfig&,
                                              std::size_t cache_entries);
  void (*write_faces)(const FaceDatasetOptions&, const std::filesystem::path& folder);
};

}  // namespace ferro

extern "C" {
const ferro::RuntimeTable* ferro_runtime_table();
const ferro::PictureTable* ferro_picture_table();
const ferro::ServiceTable* ferro_service_table();
}
