#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/prompt_builder.h"
#include "data/row.h"
#include "model/model_folder.h"
#include "reward/classification_metrics.h"

namespace ferro {

struct EvaluationOptions {
  std::int64_t max_new_tokens = 256;
  std::int64_t batch_rows = 128;  ///< Rows answered at the same time.
  std::string dataset = {};       ///< Names the synonym table.
};

struct EvaluatedRow {
  std::int64_t id = 0;
  std::string image_path, truth, predicted, response;
};

struct EvaluationResult {
  ClassificationReport report;
  std::vector<EvaluatedRow> rows;  ///< In row order; rows that could not be asked are not here but counted.
  std::int64_t set_aside = 0;
  double mean_completion_length = 0, format_rate = 0;
};

/// Greedy answers, labels by FERBench's lenient rule, metrics. The one evaluation that training, `ferro eval`
/// and ablation share. Rows without candidate labels use the sorted distinct solutions of `rows`. The result
/// does not depend on `batch_rows`.
EvaluationResult evaluate(const Model& model, const Tokenizer& tokenizer, const PromptBuilder& prompts,
                          const std::vector<Row>& rows, const EvaluationOptions& options);

/// Accuracy, macro figures, figures per class and confusion matrix, as evaluation.json holds them.
nlohmann::ordered_json report_of(const EvaluationResult& result);

}  // namespace ferro
