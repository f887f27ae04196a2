#pragma once

#include <string>
#include <vector>

#include "launch/commands.h"

namespace ferro {

// The functions behind RuntimeTable; their contracts stand there.
EvalOutcome evaluate_model(const EvalRequest& request);
std::vector<Answer> generate_answers(const GenerateRequest& request);
std::vector<Answer> score_given(const ScoreRequestOnTexts& request);
std::string make_model(const ModelInitRequest& request);
InspectOutcome describe_model(const InspectRequest& request);
std::string plan_run(const PlanRequest& request);
std::string merge_adapter(const MergeRequest& request);

}  // namespace ferro
