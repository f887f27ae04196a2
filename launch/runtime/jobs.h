#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launch/commands.h"

namespace ferro {

// The functions behind RuntimeTable; their contracts stand there.
EvalOutcome evaluate_model(const EvalRequest& request);
std::vector<Answer> generate_answers(const GenerateRequest& request);
std::vector<Answer> score_given(const ScoreRequestOnTexts& request);
std::string make_model(const ModelInitRequest& request);
std::string describe_model(const std::filesystem::path& folder, bool all_tensors);

}  // namespace ferro
