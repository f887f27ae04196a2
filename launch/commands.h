#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/augment_config.h"
#include "data/faces/face_dataset.h"
#include "data/image_input.h"
#include "data/image_processor_config.h"
#include "data/row.h"
#include "reward/classification_metrics.h"
#include "trainer/train.h"

// What the program `ferro` asks of its two shared libraries. libferro_runtime.so links LibTorch and
// libferro_pictures.so links OpenCV: loading either costs more than `ferro --help` may take, and in one
// translation unit their headers do not get along. Plain data goes in, plain data comes out.

namespace ferro {

using ImageLoaderFactory = std::function<std::unique_ptr<ImageLoader>(
    const ImageProcessorConfig&, const AugmentConfig&, std::size_t cache_entries)>;

/// How a model is asked: its folder, and how a row becomes a prompt (of `data`, what concerns single rows).
struct Asking {
  std::filesystem::path model;
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

struct GenerateRequest {
  Asking asking;
  Row row;
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
  Row row;
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
  std::vector<std::string> texts;  ///< What the tokenizer is learnt from.
  std::int64_t vocab_size = 1024;
  std::filesystem::path out;
  std::uint64_t seed = 0;
  std::int32_t image_size = 48;  ///< Every image is resized to this square.
  std::int32_t patch_size = 12;
  bool standardize = true;  ///< Each image to mean 0, variance 1.
};

/// Entry points of libferro_runtime.so. All throw Error.
struct RuntimeTable {
  const char* version;
  void (*train_sft)(const SftConfig&, const TrainEnvironment&);
  void (*train_grpo)(const GrpoConfig&, const TrainEnvironment&);
  EvalOutcome (*evaluate)(const EvalRequest&);
  std::vector<Answer> (*generate)(const GenerateRequest&);
  std::vector<Answer> (*score)(const ScoreRequestOnTexts&);
  std::string (*init_model)(const ModelInitRequest&);  ///< Returns inspect_model's report of the new folder.
  /// A report for people: architecture, parameters, the weights' SHA-256.
  std::string (*inspect_model)(const std::filesystem::path& folder, bool all_tensors);
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
}
