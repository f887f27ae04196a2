#pragma once

#include <cstdint>
#include <vector>

#include "data/prompt_builder.h"
#include "data/row.h"
#include "model/model_folder.h"

namespace ferro {

struct ValidationOptions {
  bool all_tokens = false;         ///< As in training: loss on every token but placeholders, or on answers.
  std::int64_t max_tokens = 8192;  ///< Of a packed pass; a longer row goes alone. Changes nothing but memory.
};

/// Means over all target tokens of rows with responses.
struct Validation {
  double loss = 0, token_accuracy = 0;
  std::int64_t targets = 0;
};

/// Loss of a model on rows it is not trained on, without augmentation and dropout. Rows without a response,
/// and rows that cannot be prepared, are left out.
Validation validate(const Model& model, const PromptBuilder& prompts, const std::vector<Row>& rows,
                    const ValidationOptions& options);

}  // namespace ferro
