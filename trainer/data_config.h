#pragma once

#include <cstdint>
#include <string>

#include "core/config_visitor.h"

namespace ferro {

/// What is trained on and how a row becomes a prompt. Shared by SFT, GRPO and evaluation, so that they cannot
/// disagree.
struct DataConfig {
  std::string train_file, eval_file;
  std::string image_root;
  std::int64_t max_rows = 0, max_eval_rows = 0;
  std::string system_prompt = "default";
  std::string question;
  std::string position_rule = "hub";
  std::int64_t max_prompt_length = 4096;
  bool shuffle = true;
  std::int64_t image_cache_entries = 4096;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("train_file", train_file, "JSON or JSON-lines file of training rows.");
    v.field("eval_file", eval_file, "Rows for evaluation during and after training; empty: none.");
    v.field("image_root", image_root,
            "Folder that image paths are relative to; empty: the data file's folder.");
    v.field("max_rows", max_rows, {.min = 0}, "Use only the first rows of train_file; 0: all.");
    v.field("max_eval_rows", max_eval_rows, {.min = 0}, "Use only the first rows of eval_file; 0: all.");
    v.field("system_prompt", system_prompt, Choices{"default", "empty", "none"},
            "default: the chat template's own system text (published RL and evaluation); empty: an empty "
            "system message (published cold start); none: no system turn.");
    v.field("question", question, "Asked instead of every row's own question when not empty.");
    v.field(
        "position_rule", position_rule, Choices{"hub", "transformers5"},
        "Positions of video tokens: as the code on the hub counts them, or as transformers 5 does. Text and "
        "still images have the same in both.");
    v.field("max_prompt_length", max_prompt_length, {.min = 1},
            "Tokens; rows with longer prompts are set aside, never cut.");
    v.field("shuffle", shuffle, "New keyed order each epoch; false: file order.");
    v.field("image_cache_entries", image_cache_entries, {.min = 0}, "Decoded images kept in memory.");
  }
};

}  // namespace ferro
