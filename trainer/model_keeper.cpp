#include "trainer/model_keeper.h"

#include <utility>

#include "core/atomic_file.h"
#include "model/model_folder.h"

namespace ferro {

ModelKeeper::ModelKeeper(const Model& model, const Tokenizer& tokenizer, const PromptBuilder& prompts,
                         const Dataset& evaluation_rows, EvaluationOptions options, bool keep_best,
                         std::filesystem::path source_folder, RunFolder& run,
                         std::shared_ptr<spdlog::logger> log)
    : model_(model),
      tokenizer_(tokenizer),
      prompts_(prompts),
      rows_(evaluation_rows),
      options_(std::move(options)),
      keep_best_(keep_best),
      source_folder_(std::move(source_folder)),
      run_(run),
      log_(std::move(log)) {}

std::map<std::string, double> ModelKeeper::evaluate_at(std::int64_t step) {
  if (rows_.rows.empty() || evaluated_at_ == step) return {};
  evaluated_at_ = step;
  last_ = evaluate(model_, tokenizer_, prompts_, rows_.rows, options_);
  const ClassificationReport& report = last_.report;
  log_->info("step {}: accuracy {:.4f}, macro F1 {:.4f} on {} rows ({} set aside)", step, report.accuracy,
             report.macro_f1, report.count, last_.set_aside);
  if (keep_best_ && report.accuracy > best_accuracy_) {
    best_accuracy_ = report.accuracy;
    best_step_ = step;
    const std::string sha256 = save_model(model_, run_.best_folder(), source_folder_);
    run_.write_provenance(
        {{"best", {{"step", step}, {"accuracy", report.accuracy}, {"weights_sha256", sha256}}}});
  }
  std::map<std::string, double> metrics{{"eval/accuracy", report.accuracy},
                                        {"eval/macro_f1", report.macro_f1},
                                        {"eval/macro_recall", report.macro_recall},
                                        {"eval/macro_precision", report.macro_precision},
                                        {"eval/format", last_.format_rate},
                                        {"eval/mean_length", last_.mean_completion_length},
                                        {"eval/set_aside", static_cast<double>(last_.set_aside)}};
  for (const ClassMetrics& c : report.classes) metrics["recall/" + c.label] = c.recall;
  return metrics;
}

void ModelKeeper::save(std::int64_t step) {
  const std::string sha256 = save_model(model_, run_.model_folder(), source_folder_);
  run_.write_provenance({{"weights_sha256", sha256}, {"steps", step}});
  if (evaluated_at_ >= 0) {
    nlohmann::ordered_json report = report_of(last_);
    report["step"] = evaluated_at_;
    if (best_step_ >= 0) report["best"] = {{"step", best_step_}, {"accuracy", best_accuracy_}};
    write_file_atomically(run_.path() / "evaluation.json", report.dump(2) + "\n");
    std::string predictions;
    for (const EvaluatedRow& row : last_.rows)
      predictions += nlohmann::ordered_json{{"id", row.id},
                                            {"image_path", row.image_path},
                                            {"truth", row.truth},
                                            {"predicted", row.predicted},
                                            {"response", row.response}}
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                     "\n";
    write_file_atomically(run_.path() / "predictions.jsonl", predictions);
  }
  log_->info("model of step {} saved in {}", step, run_.model_folder().string());
}

}  // namespace ferro
