#include <memory>

#include "launch/runtime/jobs.h"
#include "model/lora.h"

namespace ferro {

std::string plan_run(const PlanRequest& request) {
  const PlanSettings settings =
      std::visit([&](const auto& config) { return plan_settings(config, request.rows, request.world_size); },
                 request.job);
  const MemoryPlan plan = plan_memory(ModelConfig::load(request.config_json), settings);
  return describe_plan(plan, settings, request.world_size);
}

std::string merge_adapter(const MergeRequest& request) {
  Model model = load_model(request.model, false);
  attach_adapter(model, std::make_shared<LoraAdapter>(load_adapter(request.adapter, model)), false);
  return save_model(model, request.out, request.model);
}

}  // namespace ferro
