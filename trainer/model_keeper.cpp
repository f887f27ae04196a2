#include "trainer/model_keeper.h"

#include <utility>

#include "core/atomic_file.h"
#include "trainer/state_json.h"
#include "trainer/trained_model.h"

namespace ferro {

ModelKeeper::ModelKeeper(const Model& model, const Tokenizer& tokenizer, const PromptBuilder& prompts,
                         const Dataset& evaluation_rows, EvaluationOptions options, bool keep_best,
                         std::filesystem::path source_folder, RunFolder& run,
                         std::shared_ptr<spdlog::logger> log, KeptBy kept_by)
    : model_(model),
      tokenizer_(tokenizer),
      prompts_(prompts),
      rows_(evaluation_rows),
      options_(std::move(options)),
      keep_best_(keep_best),
      source_folder_(std::move(source_folder)),
      run_(run),
      log_(std::move(log)),
      kept_by_(std::move(kept_by)) {}

nlohmann::ordered_json ModelKeeper::best() const {
  nlohmann::ordered_json facts{{"step", best_step_}, {"accuracy", best_accuracy_}};
  if (kept_by_.with_loss) facts["eval_loss"] = best_loss_;
  return facts;
}

void ModelKeeper::keep_if_best(std::int64_t step) {
  const double accuracy = last_.report.accuracy, loss = last_loss_.loss;
  const bool better = kept_by_.by_loss ? loss < best_loss_ : accuracy > best_accuracy_;
  if (best_step_ >= 0 && !better) return;
  best_accuracy_ = accuracy;
  best_loss_ = loss;
  best_step_ = step;
  const std::string sha256 =
      save_trained_model(model_, run_.best_folder(), run_.best_adapter_folder(), source_folder_);
  nlohmann::ordered_json facts = best();
  facts["weights_sha256"] = sha256;
  run_.write_provenance({{"best", facts}});
}

std::map<std::string, double> ModelKeeper::evaluate_at(std::int64_t step) {
  if (rows_.rows.empty() || evaluated_at_ == step || !run_.writes()) return {};
  evaluated_at_ = step;
  last_ = evaluate(model_, tokenizer_, prompts_, rows_.rows, options_);
  const ClassificationReport& report = last_.report;
  log_->info("step {}: accuracy {:.4f}, macro F1 {:.4f} on {} rows ({} set aside)", step, report.accuracy,
             report.macro_f1, report.count, last_.set_aside);
  if (kept_by_.with_loss) {
    last_loss_ = validate(model_, prompts_, rows_.rows, kept_by_.loss);
    log_->info("step {}: loss {:.4f}, token accuracy {:.4f} on {} answer tokens", step, last_loss_.loss,
               last_loss_.token_accuracy, last_loss_.targets);
  }
  if (keep_best_) keep_if_best(step);
  std::map<std::string, double> metrics{{"eval/accuracy", report.accuracy},
                                        {"eval/macro_f1", report.macro_f1},
                                        {"eval/macro_recall", report.macro_recall},
                                        {"eval/macro_precision", report.macro_precision},
                                        {"eval/format", last_.format_rate},
                                        {"eval/mean_length", last_.mean_completion_length},
                                        {"eval/set_aside", static_cast<double>(last_.set_aside)}};
  if (kept_by_.with_loss) {
    metrics["eval/loss"] = last_loss_.loss;
    metrics["eval/mean_token_accuracy"] = last_loss_.token_accuracy;
  }
  for (const ClassMetrics& c : report.classes) metrics["recall/" + c.label] = c.recall;
  return metrics;
}

nlohmann::json ModelKeeper::state() const {
  return {{"best_step", best_step_},
          {"best_accuracy", json_of(best_accuracy_)},
          {"best_loss", json_of(best_loss_)}};
}

void ModelKeeper::restore(const nlohmann::json& state, bool same_rows) {
  if (!same_rows) return;
  best_step_ = state.at("best_step").get<std::int64_t>();
  best_accuracy_ = number_of(state.at("best_accuracy"));
  best_loss_ = number_of(state.at("best_loss"));
}

void ModelKeeper::save(std::int64_t step) {
  if (!run_.writes()) return;
  const std::string sha256 =
      save_trained_model(model_, run_.model_folder(), run_.adapter_folder(), source_folder_);
  run_.write_provenance({{"weights_sha256", sha256}, {"steps", step}});
  if (evaluated_at_ >= 0) {
    nlohmann::ordered_json report = report_of(last_);
    report["step"] = evaluated_at_;
    if (best_step_ >= 0) report["best"] = best();
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
