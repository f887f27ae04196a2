#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include <spdlog/logger.h>

#include "data/dataset_reader.h"
#include "trainer/evaluation.h"
#include "trainer/run_folder.h"
#include "trainer/validation.h"

namespace ferro {

/// What an evaluation measures beside greedy answers, and what the best model is best by.
struct KeptBy {
  bool with_loss = false;  ///< Loss and token accuracy on the rows' responses.
  bool by_loss = false;    ///< The lowest loss instead of the highest accuracy.
  ValidationOptions loss = {};
};

/// Evaluates a model in training, keeps the best in best/ and the last in model/, and writes what came of it
/// into the run folder. Of several ranks only the one that writes the folder does so. One thread.
class ModelKeeper {
 public:
  /// `rows` empty: no evaluation. `keep_best`: save best/ when the model is better than before. All
  /// references must outlive it.
  ModelKeeper(const Model& model, const Tokenizer& tokenizer, const PromptBuilder& prompts,
              const Dataset& evaluation_rows, EvaluationOptions options, bool keep_best,
              std::filesystem::path source_folder, RunFolder& run, std::shared_ptr<spdlog::logger> log,
              KeptBy kept_by = {});

  /// Metrics "eval/accuracy", "eval/macro_f1", "eval/loss", "recall/<label>", ...; empty without rows. A
  /// second call at the same step does nothing.
  std::map<std::string, double> evaluate_at(std::int64_t step);
  /// Writes model/, adapter/ with an adapter (model/ then holds it merged, unless lora.save_merged is off)
  /// and, with evaluation, evaluation.json and predictions.jsonl of the last one; provenance gets
  /// "weights_sha256" and "steps".
  void save(std::int64_t step);
  /// The best model so far; what an evaluation measured is not kept: a resumed run evaluates again.
  nlohmann::json state() const;
  /// `same_rows`: they are those of `state`; on others the best is looked for anew.
  void restore(const nlohmann::json& state, bool same_rows);

 private:
  void keep_if_best(std::int64_t step);
  nlohmann::ordered_json best() const;

  const Model& model_;
  const Tokenizer& tokenizer_;
  const PromptBuilder& prompts_;
  const Dataset& rows_;
  EvaluationOptions options_;
  bool keep_best_;
  std::filesystem::path source_folder_;
  RunFolder& run_;
  std::shared_ptr<spdlog::logger> log_;
  KeptBy kept_by_;
  EvaluationResult last_;
  Validation last_loss_;
  std::int64_t evaluated_at_ = -1, best_step_ = -1;
  double best_accuracy_ = -1, best_loss_ = 0;
};

}  // namespace ferro
