#pragma once

#include <cstdint>
#include <string>

#include "data/augment_config.h"
#include "model/lora_config.h"
#include "model/trained_parts.h"
#include "trainer/checkpoint/saving_config.h"
#include "trainer/data_config.h"
#include "trainer/optimizer_config.h"
#include "trainer/ranks_config.h"

namespace ferro {

/// `ferro train sft -c file.yaml`: one struct per file, its fields listed once.
struct SftConfig {
  std::string model_name_or_path;
  std::string output_dir = "runs/sft";
  bool overwrite_output_dir = false;
  std::int64_t seed = 0;
  std::int64_t num_train_epochs = 1;
  std::int64_t max_steps = 0;
  std::int64_t per_device_train_batch_size = 32;
  std::int64_t gradient_accumulation_steps = 1;
  std::int64_t max_tokens_per_micro_batch = 0;
  std::string loss_on = "answers";
  std::string recompute = "none";
  std::int64_t logging_steps = 10, eval_steps = 0;
  bool eval_on_start = false;
  std::string metric_for_best_model = "accuracy";
  std::int64_t max_new_tokens = 128;
  SavingConfig saving;
  DataConfig data;
  AugmentConfig augmentation;
  OptimizerConfig optimizer;
  TrainedParts train;
  LoraConfig lora;
  RanksConfig ranks;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("model_name_or_path", model_name_or_path, "Hugging Face model folder to start from.");
    v.field("output_dir", output_dir, "Run folder.");
    v.field("overwrite_output_dir", overwrite_output_dir, "Replace an existing run folder.");
    v.field("seed", seed, {.min = 0}, "Key of all randomness of the run.");
    v.field("num_train_epochs", num_train_epochs, {.min = 1},
            "Passes over the data; max_steps wins when it is set.");
    v.field("max_steps", max_steps, {.min = 0}, "Optimizer steps; 0: by epochs.");
    v.field("per_device_train_batch_size", per_device_train_batch_size, {.min = 1}, "Rows per micro-batch.");
    v.field("gradient_accumulation_steps", gradient_accumulation_steps, {.min = 1},
            "Micro-batches per optimizer step.");
    v.field("max_tokens_per_micro_batch", max_tokens_per_micro_batch, {.min = 0},
            "Above 0: a step's rows (per_device_train_batch_size times gradient_accumulation_steps) are "
            "packed in "
            "order into micro-batches of at most so many tokens, a longer row alone. Changes memory and "
            "speed, not "
            "the step.");
    v.field("loss_on", loss_on, Choices{"answers", "all"},
            "Train on answer tokens, or on every token but image placeholders (the published run).");
    v.field("recompute", recompute, Choices{"none", "full"},
            "full: keep only each stage's input and recompute its graph in backward.");
    v.field("logging_steps", logging_steps, {.min = 1}, "Steps between lines of metrics.jsonl.");
    v.field("eval_steps", eval_steps, {.min = 0},
            "Steps between evaluations; the best model is kept in best/. 0: only at the end.");
    v.field("eval_on_start", eval_on_start, "Evaluate before the first step too.");
    v.field(
        "metric_for_best_model", metric_for_best_model, Choices{"accuracy", "eval_loss"},
        "What the best model is best by: accuracy of greedy answers, or the loss on the evaluation file's "
        "responses.");
    v.field("max_new_tokens", max_new_tokens, {.min = 1, .max = 1 << 20}, "Longest answer in evaluation.");
    saving.visit(v);
    v.section("data", data, "Rows and prompts.");
    v.section("augmentation", augmentation, "Augmentation of training images.");
    v.section("optimizer", optimizer, "AdamW and schedule.");
    v.section("train", train, "Which parts of the model are trained.");
    v.section("lora", lora, "Low-rank adapters on a frozen base.");
    v.section("ranks", ranks, "Several processes that train one model (docs/scaling.md).");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (model_name_or_path.empty()) report("model_name_or_path", "must name a model folder");
    if (output_dir.empty()) report("output_dir", "must name a run folder");
    saving.validate_saving(report);
    if (data.train_file.empty()) report("data.train_file", "must name a data file");
  }
};

}  // namespace ferro
